"""The composition root: wires the parts, starts and stops them in order, handles signals."""

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import uuid
from contextlib import AsyncExitStack, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import traitlets
from hypercorn.asyncio import serve
from starlette.applications import Starlette
from traitlets import Bool, Dict, Float, Integer, List, Tuple, Type, Unicode, validate
from traitlets.config import Application, Config, Configurable, catch_config_error

from condastore import __version__
from condastore.access import AccessPolicy
from condastore.auth import (
    AdminToken,
    Authentication,
    DummyAuthentication,
    Identities,
    TokenAuthentication,
    TokenSigner,
    derived,
    keep_secret,
)
from condastore.builders.archives import Archiver
from condastore.builders.collection import KIND as COLLECT
from condastore.builders.collection import Collector, collect_regularly
from condastore.builders.images import ImageMaker
from condastore.builders.links import Links
from condastore.builders.making import Making
from condastore.builders.pipeline import Builder
from condastore.builders.removal import Remover, sweep_packages
from condastore.builders.solver import SolverPool
from condastore.builders.solves import Solves
from condastore.configuration import (
    AuthenticationBackend,
    CondaStore,
    CondaStoreWorker,
    RBACAuthorizationBackend,
)
from condastore.database import Database
from condastore.disk import Disk
from condastore.errors import CondaStoreError, ConfigurationError, InvalidInput
from condastore.hooks import Hooks
from condastore.http.app import WebOptions, create_app
from condastore.http.listener import Listener, ServerConfig
from condastore.http.security import LOOPBACK_HOSTS
from condastore.image_configuration import ContainerRegistry, Images
from condastore.indexer import Indexer
from condastore.locks import DirectoryLock
from condastore.metrics import Metrics
from condastore.package_index import PackageIndex
from condastore.pool import POLL_S, Pool, Work
from condastore.prefixes import Store
from condastore.recovery import recover, take_over_for_ever
from condastore.service.parts import Parts
from condastore.setting_rows import configured
from condastore.storage import LocalStorage, Storage
from condastore.storage.outbox import Outbox
from condastore.streams import LogHub
from condastore.tasks import TaskQueue
from condastore.wakeups import Wakeups

if TYPE_CHECKING:
    from condastore.streams.redis import RedisLogs

logger = logging.getLogger(__name__)

HTTP_GRACE_S = 3.0
# Only one takes files away at a time, the others have theirs moved to the trash and wait.
REMOVALS = 4
# What runs in these takes space, so it waits while there is none.
LANES_THAT_FILL = ("builds", "artifacts")
# Other daemons may queue what this one does not hear of.
SHARED_POLL_S = 5.0
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

    def start(self) -> None:
        """Serves until a signal ends it."""
        logging.basicConfig(
            level=self.log_level,
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        for library in ("alembic", "hypercorn"):
            logging.getLogger(library).setLevel(max(self.log_level, logging.WARNING))
        asyncio.run(Daemon(self).run())


class Daemon:
    """The parts of one running daemon."""

    def __init__(self, app: CondaStoreServer) -> None:
        self._app = app
        self._config = CondaStore(parent=app)
        self._worker = CondaStoreWorker(parent=app)
        self._images = _images(app)
        self._registry = ContainerRegistry(parent=app)
        self._data = Path(self._config.data_directory)
        self._store = Store.of(self._config)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Recovers, serves, and drains.

        Raises `ConfigurationError` before anything is served.
        """
        async with AsyncExitStack() as stack:
            database = Database(
                self._config.database_url,
                upgrade=self._config.upgrade_db,
                connections=self._config.database_connections,
            )
            await self._lock(stack, shared=not database.is_sqlite)
            listener = self._listen()
            stack.callback(listener.close)
            stack.push_async_callback(database.close)
            storage = self._storage()
            disk = self._disk(database, storage)
            # Where it is full, even an old database can't be opened without what is kept for that.
            await asyncio.to_thread(disk.look)
            await database.open()
            self._handle_signals()
            secret = self._secret()
            token = AdminToken(secret)
            authentication = self._authentication(token)
            identities = self._identities(database, secret, token)
            parts = self._parts(database, storage, disk, identities, stack)
            await parts.storage.open()
            stack.push_async_callback(parts.storage.close)
            await recover(
                database, parts.pool, self._store, parts.storage, parts.logs, alone=self._alone
            )
            if not database.is_sqlite:
                self._store_lock.share()
            # Where this goes may be a file on a full disk.
            with suppress(OSError):
                self._announce(listener, token)
            web = create_app(parts, authentication, self._web_options(secret))
            # All this stays. A collection that looked at it would hold everything up for 70 ms.
            gc.freeze()
            await self._serve(parts, listener, web)

    def _parts(
        self,
        database: Database,
        storage: Storage,
        disk: Disk,
        identities: Identities,
        stack: AsyncExitStack,
    ) -> Parts:
        defaults = configured(self._config)
        redis = self._redis(stack)
        logs = LogHub(
            self._data / "logs",
            storage,
            self._config.max_log_bytes,
            redis.publish if redis is not None else None,
        )
        stack.callback(logs.close)
        solvers = SolverPool(self._store.scratch, self._worker)
        stack.push_async_callback(solvers.close)
        hooks = self._hooks()
        links = Links(database, self._store, hooks)
        metrics = Metrics()
        builder = Builder(
            self._config, defaults, database, self._store, storage, logs, solvers, links, metrics
        )
        collector = Collector(self._registry, defaults, database, storage)
        remover = Remover(
            self._registry,
            defaults,
            database,
            self._store,
            storage,
            links,
            lambda: self._worker.removal_rate if disk.problem is None else 0,
        )
        making = Making()
        archiver = Archiver(self._config, database, self._store, storage, making)
        imager = ImageMaker(self._config, self._images, database, self._store, storage, making)
        owner = f"{socket.gethostname()[:40]}-{uuid.uuid4().hex[:16]}"
        queue = TaskQueue(database, owner, max_attempts=self._worker.max_attempts)
        pool = Pool(
            queue,
            works(builder, archiver, imager, remover, collector, self._config.max_build_time),
            {
                "builds": self._worker.concurrency or 1,
                "artifacts": self._worker.artifact_concurrency,
                "housekeeping": 1,
                "removals": REMOVALS,
            },
            poll_s=POLL_S if database.is_sqlite else SHARED_POLL_S,
        )
        solves = Solves(self._config, database, self._store, solvers)
        index = PackageIndex(self._data / "index" / "packages.sqlite")
        stack.callback(index.close)
        indexer = Indexer(
            self._config, defaults, database, self._store, index, self._worker.index_interval
        )
        return Parts(
            self._config,
            defaults,
            database,
            pool,
            logs,
            storage,
            self._store,
            identities,
            solves,
            making,
            metrics,
            hooks,
            index,
            indexer,
            disk,
            redis,
        )

    def _disk(self, database: Database, storage: Storage) -> Disk:
        places = {
            "CondaStore.data_directory": self._data,
            "CondaStore.store_directory": self._store.root,
        }
        if database.directory is not None:
            places["CondaStore.database_url"] = database.directory
        if isinstance(storage, LocalStorage):
            places["LocalStorage.storage_path"] = Path(storage.storage_path)
        disk = Disk(self._config, places)
        database.on_full = disk.exhausted
        return disk

    def _hooks(self) -> Hooks:
        config = self._config
        return Hooks(
            config,
            config.hook_timeout,
            validate_specification=config.validate_specification,
            validate_action=config.validate_action,
            environment_switched=config.post_update_environment_build_hook,
        )

    def _identities(self, database: Database, secret: str, token: AdminToken) -> Identities:
        backend = AuthenticationBackend(parent=self._app)
        rules = RBACAuthorizationBackend(parent=self._app)
        try:
            policy = AccessPolicy.of(
                rules.role_mappings,
                rules.unauthenticated_role_bindings,
                rules.authenticated_role_bindings,
            )
            return Identities(
                database,
                policy,
                TokenSigner(secret, backend.jwt_algorithm, policy),
                token,
                predefined_tokens=backend.predefined_tokens,
                default_namespace=self._config.default_namespace,
                role_mappings_version=rules.role_mappings_version,
            )
        except InvalidInput as error:
            raise ConfigurationError(
                f"c.RBACAuthorizationBackend or predefined_tokens: {error}"
            ) from error

    def _authentication(self, token: AdminToken) -> Authentication:
        authentication: Authentication = self._app.authentication_class(parent=self._app)
        if isinstance(authentication, TokenAuthentication):
            authentication.admin_token = token
        authentication.check()
        return authentication

    def _web_options(self, secret: str) -> WebOptions:
        app = self._app
        hosts = app.allowed_hosts or (list(LOOPBACK_HOSTS) if _is_loopback(app.address) else None)
        return WebOptions(
            url_prefix=app.url_prefix.rstrip("/"),
            session_secret=derived(secret, "session"),
            allowed_hosts=hosts,
            max_page_size=app.max_page_size,
            read_timeout=app.read_timeout,
            template_vars=app.template_vars,
            additional_routes=app.additional_routes,
            enable_ui=app.enable_ui,
            ui_directory=Path(app.ui_directory) if app.ui_directory else None,
            registry=self._registry if app.enable_registry else None,
            registry_secret=derived(secret, "registry tokens"),
            registry_host=app.registry_external_url,
            behind_proxy=app.behind_proxy,
            enable_metrics=app.enable_metrics,
            cors_allow_origins=app.cors_allow_origins,
            cors_allow_origin_regex=app.cors_allow_origin_regex,
        )

    async def _serve(self, parts: Parts, listener: Listener, web: Starlette) -> None:
        """Runs the HTTP server and the pool in one task group until a signal comes."""
        _room_changed(parts)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run_pool(parts.pool), name="pool")
            group.create_task(
                serve(
                    cast(Any, web), self._hypercorn(listener), shutdown_trigger=self._stopping.wait
                ),
                name="http",
            )
            beside = [
                group.create_task(parts.metrics.watch_loop(), name="event loop lag"),
                group.create_task(self._watch(parts), name="watch paths"),
                group.create_task(parts.indexer.run(), name="package index"),
                group.create_task(
                    collect_regularly(parts.database, parts.pool, self._registry.collect_every),
                    name="collect blobs regularly",
                ),
                group.create_task(parts.storage.run(), name="storage"),
                group.create_task(self._hear(parts), name="wake-ups"),
                *([group.create_task(parts.redis.run(), name="redis")] if parts.redis else []),
                group.create_task(
                    parts.disk.run(lambda: _room_changed(parts)), name="room on the disk"
                ),
                group.create_task(take_over_for_ever(parts.database, parts.pool), name="takeover"),
            ]
            await self._stopping.wait()
            for task in beside:
                task.cancel()
            logger.info(
                "stopping; %d running builds have %g s to finish",
                parts.pool.running,
                self._worker.drain_timeout,
            )
            parts.logs.detach()
            await parts.pool.drain(self._worker.drain_timeout)

    async def _watch(self, parts: Parts) -> None:
        if self._worker.watch_paths:
            # What it watches with is needed here only.
            from condastore.watcher import Watcher

            await Watcher(parts, [Path(path) for path in self._worker.watch_paths]).run()

    async def _hear(self, parts: Parts) -> None:
        await Wakeups(parts.database, parts.pool.wake, parts.pool.look_for_canceled).run()

    async def _run_pool(self, pool: Pool) -> None:
        try:
            await sweep_packages(self._store)
        except (CondaStoreError, OSError) as error:
            # On a full disk there is no room for the child; it is done again with the next removal.
            logger.error("what dead builds left can't be removed now: %s", error)
        await pool.run()

    async def _lock(self, stack: AsyncExitStack, *, shared: bool) -> None:
        """Keeps other daemons out; on PostgreSQL several may share a store."""
        lock = DirectoryLock(self._data / "daemon.lock")
        lock.acquire()
        stack.callback(lock.release)
        self._store_lock = DirectoryLock(self._store.root / ".daemon.lock")
        stack.callback(self._store_lock.release)
        if shared:
            self._alone = await asyncio.to_thread(self._store_lock.acquire_shared)
        else:
            self._store_lock.acquire()
            self._alone = True
        self._store.make()
        (self._data / "logs").mkdir(exist_ok=True)

    def _listen(self) -> Listener:
        """Takes the port before the recovery begins; requests wait in it until it is over."""
        address, port = self._app.address, self._app.port
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = Listener(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen()
            listener.limit(self._app.max_connections)
        except OSError as error:
            listener.close()
            raise ConfigurationError(
                f"port {port} on {address} can't be used: {error.strerror}; set "
                "c.CondaStoreServer.port to a free one, or to 0"
            ) from error
        return listener

    def _hypercorn(self, listener: Listener) -> ServerConfig:
        config = ServerConfig(listener)
        config.keep_alive_timeout = self._app.keep_alive_timeout
        config.graceful_timeout = HTTP_GRACE_S
        config.shutdown_timeout = HTTP_GRACE_S
        config.errorlog = logging.getLogger("hypercorn.error")
        config.include_server_header = False
        return config

    def _storage(self) -> Storage:
        storage: Storage = self._config.storage_class(parent=self._app)
        if isinstance(storage, LocalStorage) and not storage.storage_path:
            storage.storage_path = str(self._data / "storage")
        return Outbox(storage, self._data / "unstored") if storage.is_remote else storage

    def _redis(self, stack: AsyncExitStack) -> "RedisLogs | None":
        if not self._config.redis_url:
            return None
        from condastore.streams.redis import RedisLogs

        redis = RedisLogs(self._config.redis_url, self._config.log_stream_bytes)
        stack.push_async_callback(redis.close)
        return redis

    def _secret(self) -> str:
        backend = AuthenticationBackend(parent=self._app)
        return backend.secret or keep_secret(self._data / "secret")

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)

    def _interrupted(self) -> None:
        """The first Ctrl-C drains, the second ends at once; children die with the daemon."""
        if self._stopping.is_set():
            os._exit(130)
        self._stopping.set()

    def _announce(self, listener: Listener, token: AdminToken) -> None:
        host, port = listener.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{port}{self._app.url_prefix.rstrip('/')}"
        print(f"condastore {__version__} serves {url}/api/v1/", flush=True)
        if self._app.print_token:
            print(f"admin token, needed to change anything: {token.text}")
            if issubclass(self._app.authentication_class, TokenAuthentication):
                print(f"to sign in, open {url}/login/?token={token.text}")
        sys.stdout.flush()


def _room_changed(parts: Parts) -> None:
    """Lets what takes space run while there is some."""
    parts.pool.hold(() if parts.disk.problem is None else LANES_THAT_FILL)
    # Answers that were kept don't say so.
    parts.database.generation += 1


def _images(app: CondaStoreServer) -> Images:
    """Raises `ConfigurationError` if two settings don't fit together."""
    images = Images(parent=app)
    try:
        images.level  # noqa: B018 - it is checked when it is read
    except traitlets.TraitError as error:
        raise ConfigurationError(str(error)) from error
    return images


def works(
    builder: Builder,
    archiver: Archiver,
    imager: ImageMaker,
    remover: Remover,
    collector: Collector,
    max_build_time: int,
) -> dict[str, Work]:
    """Returns how each kind of task is done."""

    def artifact(run: Any) -> Work:
        return Work(run, archiver.abandon, "artifacts", max_build_time)

    def image(run: Any) -> Work:
        return Work(run, imager.abandon, "artifacts", max_build_time)

    def housekeeping(run: Any) -> Work:
        return Work(run, remover.abandon, "housekeeping")

    def removal(run: Any) -> Work:
        return Work(run, remover.abandon, "removals", drains=False)

    return {
        "build": Work(builder.run, builder.abandon, "builds", max_build_time),
        "archive": artifact(archiver.archive),
        "installer": artifact(archiver.installer),
        "image": image(imager.run),
        "update_environment_build": housekeeping(remover.update_environment),
        "delete_build": removal(remover.delete_build),
        "delete_environment": removal(remover.delete_environment),
        "delete_namespace": removal(remover.delete_namespace),
        "tidy": removal(remover.tidy),
        COLLECT: housekeeping(collector.run),
    }


def _is_loopback(address: str) -> bool:
    try:
        return address == "localhost" or ip_address(address).is_loopback
    except ValueError:
        return False
