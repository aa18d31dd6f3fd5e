"""The command line: `condastore serve`, `config`, `token`, `db`, `storage`, `systemd`, `check`."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from traitlets import TraitError
from traitlets.config import Configurable

from condastore import __version__
from condastore.auth import AdminToken, keep_secret
from condastore.configuration import AuthenticationBackend, CondaStore
from condastore.configuration_file import configuration_file
from condastore.errors import ConfigurationError
from condastore.server_configuration import CondaStoreServer

HELP = """\
condastore builds, versions and serves conda environments.

  condastore serve [--config=FILE] [--port=N] [--data=DIR] [--Class.trait=value ...]
      Start the daemon; `condastore serve --help-all` lists every setting.
  condastore config
      Print a complete configuration file, with every setting commented out.
  condastore token [--config=FILE] [--data=DIR]
      Print the admin token, which requests that change something must carry.
  condastore db upgrade|check [--config=FILE]
      Bring the database's schema up to date, or say whether it is and whether its rows are sound.
  condastore db copy URL [--config=FILE]
      Copy everything to another, empty database, such as from SQLite to PostgreSQL.
  condastore storage copy FROM TO [--config=FILE]
      Copy all artifacts, such as from LocalStorage to S3Storage; what is there already stays.
  condastore systemd [--user | --socket] [--config=FILE] [--Class.trait=value ...]
      Print a unit for systemd that suits the settings: the service, one for a user's own
      manager, or the socket that starts it (docs/deployment.md).
  condastore check [--repair] [--json] [--hashes] [--config=FILE] [--data=DIR]
      While no daemon runs: compare the database, the disk and the storage, and mend what differs.
      With --hashes every file of the package store is read as well.
      Ends with 0 if all is well, 1 if there are problems, 2 if it could not be checked.
  condastore --version
"""


def serve(arguments: Sequence[str]) -> int:
    """Runs the daemon."""
    from condastore import daemon

    app = CondaStoreServer.instance()
    app.initialize(list(arguments))
    daemon.serve(app, arguments)
    return 0


def config(arguments: Sequence[str]) -> int:
    """Prints the configuration file."""
    del arguments
    sys.stdout.write(configuration_file(configurable_classes()))
    return 0


def configurable_classes() -> list[type[Configurable]]:
    """Returns all classes that have settings, those as well that a daemon imports if it must."""
    from condastore.auth import oauth, pam
    from condastore.storage.s3 import S3Storage

    return [
        CondaStoreServer,
        *CondaStoreServer.classes,
        S3Storage,
        pam.PAMAuthentication,
        oauth.GenericOAuthAuthentication,
        oauth.GithubOAuthAuthentication,
        oauth.JupyterHubOAuthAuthentication,
    ]


def token(arguments: Sequence[str]) -> int:
    """Prints the admin token."""
    app = CondaStoreServer.instance()
    app.initialize(list(arguments))
    backend = AuthenticationBackend(parent=app)
    data = Path(CondaStore(parent=app).data_directory)
    print(AdminToken(backend.secret or keep_secret(data / "secret")).text)
    return 0


def db(arguments: Sequence[str]) -> int:
    """Maintains the database."""
    from condastore.maintenance import database_command

    return database_command(*_configured(arguments))


def storage(arguments: Sequence[str]) -> int:
    """Maintains the storage."""
    from condastore.maintenance import storage_command

    return storage_command(*_configured(arguments))


def check(arguments: Sequence[str]) -> int:
    """Inspects what a daemon that does not run has left, and mends it."""
    from condastore.inspection.command import NOT_CHECKED, check_command

    ours = {"--repair", "--json", "--hashes"}
    try:
        app, words = _configured([word for word in arguments if word not in ours])
        if words:
            raise ConfigurationError(f"condastore check knows no {words[0]!r}")
        return check_command(
            app,
            repair="--repair" in arguments,
            json="--json" in arguments,
            hashes="--hashes" in arguments,
        )
    except (ConfigurationError, TraitError) as error:
        print(f"condastore: {error}", file=sys.stderr)
        return NOT_CHECKED


def systemd(arguments: Sequence[str]) -> int:
    """Prints a unit for systemd."""
    from condastore.systemd.unit import Unit

    kinds = {"--user", "--socket"}
    app = CondaStoreServer.instance()
    options = [argument for argument in arguments if argument not in kinds]
    app.initialize(options)
    unit = Unit(app, options, is_users="--user" in arguments)
    sys.stdout.write(unit.socket() if "--socket" in arguments else unit.service())
    return 0


def _configured(arguments: Sequence[str]) -> tuple[CondaStoreServer, list[str]]:
    """Returns the configuration that the options describe, and the words beside them."""
    app = CondaStoreServer.instance()
    app.initialize([argument for argument in arguments if argument.startswith("-")])
    return app, [argument for argument in arguments if not argument.startswith("-")]


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "serve": serve,
    "config": config,
    "token": token,
    "db": db,
    "storage": storage,
    "systemd": systemd,
    "check": check,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if command in ("-V", "--version"):
        print(f"condastore {__version__}")
        return 0
    if command not in COMMANDS:
        print(f"condastore: there is no command {command!r}\n\n{HELP}", end="", file=sys.stderr)
        return 2
    try:
        return COMMANDS[command](rest)
    except (ConfigurationError, TraitError) as error:
        print(f"condastore: {error}", file=sys.stderr)
        if command != "serve":
            return 1
        return getattr(error, "exit_status", ConfigurationError.exit_status)
