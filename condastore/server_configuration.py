"""What an operator sets of the server, and how it is read: options, then the configuration file."""

import logging
import re
import traceback
from pathlib import Path
from typing import Any

import traitlets
from traitlets import (
    Bool,
    Dict,
    Float,
    Integer,
    List,
    TraitError,
    Tuple,
    Type,
    Unicode,
    default,
    validate,
)
from traitlets.config import Application, Config, Configurable
from traitlets.config.loader import ArgumentError

from condastore import __version__
from condastore.auth import Authentication, DummyAuthentication, TokenAuthentication
from condastore.configuration import (
    AuthenticationBackend,
    CondaStore,
    CondaStoreWorker,
    RBACAuthorizationBackend,
)
from condastore.errors import ConfigurationError
from condastore.image_configuration import ContainerRegistry, Images
from condastore.storage import LocalStorage

# As traitlets name a setting that is wrong, and as we do.
_SETTING = re.compile(
    r"'(?P<trait>\w+)' trait of an? (?P<instance>\w+) instance|(?P<section>\w+)\.(?P<name>\w+): "
)

LOGINS: list[type[Configurable]] = [Authentication, TokenAuthentication, DummyAuthentication]


class CondaStoreServer(Application):
    """Serve condastore: build, version and share conda environments."""

    name = "condastore serve"
    version = __version__
    raise_config_file_errors = True
    description = __doc__ or ""
    classes = [
        CondaStore,
        CondaStoreWorker,
        Images,
        AuthenticationBackend,
        RBACAuthorizationBackend,
        ContainerRegistry,
        *LOGINS,
        LocalStorage,
    ]
    aliases = {
        "config": "CondaStoreServer.config_file",
        "port": "CondaStoreServer.port",
        "data": "CondaStore.data_directory",
        "log-level": "CondaStoreServer.log_level",
    }
    flags: dict[Any, Any] = {}

    address = Unicode(
        "127.0.0.1",
        help="Address to listen on; 0.0.0.0 for all of this machine's.",
    ).tag(config=True)

    port = Integer(8080, min=0, max=65535, help="Port to listen on; 0 takes a free one.").tag(
        config=True
    )

    unix_socket = Unicode(
        help="Path of a Unix socket to listen on instead of a port, as for a proxy beside it."
    ).tag(config=True)

    unix_socket_mode = Unicode(
        "666", help="Octal mode of that socket: who may write to it may connect."
    ).tag(config=True)

    certfile = Unicode(
        help="""File with the certificate, and those that it rests on, in PEM form, to serve HTTPS;
        `keyfile` must be set too. Both are read anew at SIGHUP.""",
    ).tag(config=True)

    keyfile = Unicode(help="File with the certificate's private key, in PEM form.").tag(config=True)

    url_prefix = Unicode("/", help="Path that all URLs begin with.").tag(config=True)

    config_file = Unicode(help="Configuration file, in Python.").tag(config=True)

    log_level = Integer(
        logging.INFO,
        help="Lowest level of what is logged: 10 debug, 20 information, 30 warning, 40 error.",
    ).tag(config=True)

    print_token = Bool(True, help="Print the admin token at start.").tag(config=True)

    authentication_class = Type(
        "condastore.auth.TokenAuthentication",
        klass="condastore.auth.Authentication",
        help="""How people sign in: a class or its import path, such as
        `condastore.auth.PAMAuthentication`.""",
    ).tag(config=True)

    allowed_hosts = List(
        Unicode(),
        help="""Names that requests may be for. Default: on a loopback address localhost,
        127.0.0.1 and ::1, else any.""",
    ).tag(config=True)

    max_page_size = Integer(100, min=1, max=10_000, help="Rows of a page of a list.").tag(
        config=True
    )

    max_connections = Integer(
        16_384,
        min=1,
        help="""Connections at once; others wait until one of them ends. The limit of open files
        (`ulimit -n`), less some for builds, counts as well.""",
    ).tag(config=True)

    keep_alive_timeout = Float(
        5.0,
        min=0.1,
        help="Seconds after which a connection ends that sends no whole request.",
    ).tag(config=True)

    read_timeout = Float(
        60.0,
        min=0.1,
        help="Seconds that a request's body may pause while it comes; then it is refused (408).",
    ).tag(config=True)

    enable_metrics = Bool(True, help="Serve `/metrics` and `/celery`.").tag(config=True)

    enable_ui = Bool(True, help="Serve the web interface, at `/ui/` and `/admin/`.").tag(
        config=True
    )

    enable_registry = Bool(True, help="Serve images at `/v2/` (docs/registry.md).").tag(config=True)

    registry_external_url = Unicode(
        help="""Host, and port, under which clients know the registry, as in
        `registry.example.org`. Default: that of the request.""",
    ).tag(config=True)

    behind_proxy = Bool(
        False,
        help="""Believe `X-Forwarded-Proto`, `-Host` and `-For`, and `X-Request-Id`; only behind a
        proxy that sets them, since everybody can send them.""",
    ).tag(config=True)

    ui_directory = Unicode(
        help="""Directory `dist` of the npm package `@conda-store/conda-store-ui`, to serve
        conda-store's web interface at `/ui/`; condastore's own is then at `/admin/` only.""",
    ).tag(config=True)

    additional_routes = List(
        Tuple(Unicode(), Unicode(), traitlets.Callable()),
        help="Routes of your own: tuples of path, method and Starlette handler (docs/hooks.md).",
    ).tag(config=True)

    template_vars = Dict(
        help="Values for the templates of the pages: `banner` is shown above the login form."
    ).tag(config=True)

    cors_allow_origins = List(Unicode(), help="Origins whose pages may read answers (CORS).").tag(
        config=True
    )

    cors_allow_origin_regex = Unicode(
        ".*",
        allow_none=True,
        help="""Regular expression of such origins. The default is conda-store's, which its
        JupyterLab extension needs; the cookie is not sent from other sites.""",
    ).tag(config=True)

    @validate("url_prefix")
    def _slash(self, proposal: Any) -> str:
        return "/" + str(proposal["value"]).strip("/")

    @validate("unix_socket_mode")
    def _octal(self, proposal: Any) -> str:
        mode = str(proposal["value"])
        if not 1 <= len(mode) <= 4 or set(mode) - set("01234567"):
            raise TraitError(f"CondaStoreServer.unix_socket_mode: {mode!r} is not an octal mode")
        return mode

    def _configure_logging(self) -> None:
        """Leaves the log alone, which traitlets would take apart whenever its level is set."""

    @default("log")
    def _log(self) -> logging.Logger:
        log = logging.getLogger("condastore.configuration")
        # Beside warnings it tells of errors, which we explain, and of all values, with secrets.
        log.addFilter(lambda record: record.levelno == logging.WARNING)
        return log

    def initialize(self, argv: list[str] | None = None) -> None:
        """Reads the configuration. Raises `ConfigurationError`."""
        self.read(argv)

    def read(self, argv: list[str] | None = None) -> None:
        """Reads the command line, then the configuration file; the command line wins.

        Raises `ConfigurationError`.
        """
        try:
            self._read(argv)
        except SystemExit as error:
            # So traitlets ends the program for a wrong value, and for `--help`.
            wrong = error.__context__
            if not isinstance(wrong, TraitError | ArgumentError):
                raise
            raise ConfigurationError(self.located(str(wrong))) from wrong

    def located(self, message: str) -> str:
        """Returns what traitlets says of a setting, after the file and the line that it is in."""
        named = _SETTING.search(message)
        if not self.config_file or named is None:
            return message
        section, name = named["instance"] or named["section"], named["trait"] or named["name"]
        try:
            lines = Path(self.config_file).read_text().splitlines()
        except (OSError, UnicodeError):
            return message
        setting = re.compile(rf"\s*c\.{section}\.{name}\b")
        numbers = [number for number, line in enumerate(lines, 1) if setting.match(line)]
        return f"{self.config_file}, line {numbers[-1]}: {message}" if numbers else message

    def _read(self, argv: list[str] | None) -> None:
        self.parse_command_line(argv)
        if self.config_file:
            path = Path(self.config_file).resolve()
            if not path.is_file():
                raise ConfigurationError(f"--config={self.config_file}: there is no such file")
            command_line = Config(self.cli_config)
            try:
                self.load_config_file(path.name, path=str(path.parent))
            except Exception as error:
                # It is a program of the operator's, so anything can go wrong in it.
                place = f"{path}, line {_line(error, path)}"
                raise ConfigurationError(f"{place}: {type(error).__name__}: {error}") from error
            self.update_config(command_line)


def _line(error: Exception, path: Path) -> int | str:
    """Returns the line of a configuration file in which an error was raised."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or "?"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path)
    ]
    return lines[-1] or "?" if lines else "?"
