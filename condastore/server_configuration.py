"""What an operator sets of the server, and how it is read: options, then the configuration file."""

import logging
from pathlib import Path
from typing import Any

import traitlets
from traitlets import Bool, Dict, Float, Integer, List, Tuple, Type, Unicode, validate
from traitlets.config import Application, Config, Configurable, catch_config_error

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
        help="""Believe `X-Forwarded-Proto` and `X-Forwarded-Host`; only behind a proxy that sets
        them, since everybody can send them.""",
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

    @catch_config_error
    def initialize(self, argv: list[str] | None = None) -> None:
        """Reads the command line, then the configuration file; the command line wins."""
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
                raise ConfigurationError(f"{path}: {type(error).__name__}: {error}") from error
            self.update_config(command_line)
