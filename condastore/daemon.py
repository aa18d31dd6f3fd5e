"""The composition root: wires the parts, starts and stops them in order, handles signals."""

import asyncio
import gc
import logging
import os
import uuid
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
from hypercorn.asyncio import serve as serve_http
from starlette.applications import Starlette

from condastore import __version__, daemon_log
from condastore.auth import (
    AdminToken,
    Authentication,
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
from condastore.builders.removal import Remover, sweep_at_start
from condastore.builders.solver import SolverPool
from condastore.builders.solves import Solves
from condastore.daemon_log import STANDARD_OUTPUT
from condastore.database import Database
from condastore.disk import Disk
from condastore.duties import Duties, Turn
from condastore.errors import ConfigurationError, unusable
from condastore.files import PRIVATE, PUBLIC, make_directory
from condastore.hooks import Hooks
from condastore.http.app import WebOptions, create_app
from condastore.http.listener import Listener, ServerConfig
from condastore.http.security import LOOPBACK_HOSTS
from condastore.indexer import Indexer
from condastore.locks import DirectoryLock
from condastore.metrics import Metrics
from condastore.package_index import PackageIndex
from condastore.pool import POLL_S, Pool, Work
from condastore.prefixes import Store
from condastore.recovery import (
    follow_a_database_that_lost_changes,
    follow_what_is_noticed,
    recover,
    take_over_for_ever,
)
from condastore.reloading import Configuration
from condastore.server_configuration import CondaStoreServer
from condastore.service.chronicle import keep_chronicle
from condastore.service.parts import Parts
from condastore.service.readings import summary
from condastore.signals import Signals
from condastore.stalls import StallWatch
from condastore.storage import LocalStorage, Storage
from condastore.storage.outbox import Outbox
from condastore.streams import LogHub
from condastore.systemd.activation import inherited
from condastore.systemd.journal import is_journal
from condastore.systemd.notify import Notifier
from condastore.tally import Tally
from condastore.tasks import SWITCH, TaskQueue
from condastore.wakeups import Wakeups

if TYPE_CHECKING:
    from condastore.redis_locks import RedisLocks
    from condastore.streams.redis import RedisLogs

logger = logging.getLogger(__name__)

HTTP_GRACE_S = 3.0
# Only one takes files away at a time, the others have theirs moved to the trash and wait.
REMOVALS = 4
# What runs in these takes space, so it waits while there is none.
LANES_THAT_FILL = ("builds", "artifacts")
# Other daemons may queue what this one does not hear of.
SHARED_POLL_S = 5.0


def serve(app: CondaStoreServer, arguments: Sequence[str]) -> None:
    """Serves until a signal ends it. Raises `ConfigurationError` before anything is served.

    The arguments are those that the configuration was read with, and will be again.
    """
    # Nobody else ever writes to what the daemon makes.
    os.umask(os.umask(0o077) | 0o022)
    daemon_log.keep_standard_streams()
    daemon_log.begin(app.log_level)
    stalls = StallWatch()
    with asyncio.Runner(loop_factory=stalls.new_loop) as runner:
        runner.run(Daemon(Configuration.of(app), arguments, stalls).run())


class Daemon:
    """The parts of one running daemon."""

    def __init__(
        self, configuration: Configuration, arguments: Sequence[str], stalls: StallWatch
    ) -> None:
        self._configuration = configuration
        self._arguments = arguments
        self._app = configuration.app
        self._config = configuration.store
        self._worker = configuration.worker
        self._registry = configuration.registry
        self._data = Path(self._config.data_directory)
        self._store = Store.of(self._config)
        self._notifier = Notifier(os.environ)
        self._signals = Signals()
        self._stalls = stalls

    async def run(self) -> None:
        """Recovers, serves, and drains.

        Raises `ConfigurationError` before anything is served.
        """
        async with AsyncExitStack() as stack:
            stack.callback(self._notifier.close)
            database = Database(
                self._config.database_url,
                upgrade=self._config.upgrade_db,
                connections=self._config.database_connections,
            )
            await self._lock(stack, shared=not database.is_sqlite)
            listener = self._listen()
            stack.callback(listener.close)
            server = self._hypercorn(listener)
            stack.push_async_callback(database.close)
            self._notifier.tell(STATUS="starting: looking at what the last daemon left")
            storage = self._storage()
            disk = self._disk(database, storage)
            # Where it is full, even an old database can't be opened without what is kept for that.
            await asyncio.to_thread(disk.look)
            await database.open()
            # Until here nothing has been begun, so a signal may end it at once.
            self._signals.handle()
            secret = self._secret()
            token = AdminToken(secret)
            authentication = self._authentication(token)
            identities = self._identities(database, secret, token)
            parts = self._parts(database, storage, disk, identities, stack)
            follow = partial(
                follow_a_database_that_lost_changes, database, parts.tally, parts.links
            )
            wakeups = Wakeups(database, parts.pool.wake, parts.pool.look_for_canceled, follow)
            await wakeups.open()
            stack.callback(wakeups.close)
            await parts.storage.open()
            stack.push_async_callback(parts.storage.close)
            await recover(
                database, parts.pool, self._store, parts.storage, parts.logs, alone=self._alone
            )
            await follow()
            if not database.is_sqlite:
                self._store_lock.share()
            self._announce(listener, token)
            web = create_app(parts, authentication, self._web_options(secret, listener))
            # All this stays. A collection that looked at it would hold everything up for 70 ms.
            gc.freeze()
            duties = Duties(database, self._locks(stack), self._owner, self._directory)
            with self._stalls:
                await self._serve(parts, server, wakeups, duties, listener, web)

    def _parts(
        self,
        database: Database,
        storage: Storage,
        disk: Disk,
        identities: Identities,
        stack: AsyncExitStack,
    ) -> Parts:
        defaults = self._configuration.settings()
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
        tally = Tally(database, self._data / "tally")
        metrics = Metrics()
        builder = Builder(
            self._config,
            defaults,
            database,
            self._store,
            storage,
            logs,
            solvers,
            links,
            metrics,
            tally,
            disk.doubt,
        )
        collector = Collector(self._registry, defaults, database, storage)
        remover = Remover(
            self._registry,
            defaults,
            database,
            self._store,
            storage,
            links,
            tally,
            lambda: self._worker.removal_rate if disk.problem is None else 0,
        )
        making = Making()
        archiver = Archiver(self._config, database, self._store, storage, making)
        imager = ImageMaker(
            self._config, self._configuration.images, database, self._store, storage, making
        )
        queue = TaskQueue(
            database,
            self._owner,
            directory=self._directory,
            max_attempts=self._worker.max_attempts,
        )
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
            links,
            tally,
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
        database.on_full = disk.doubt
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
        policy = self._configuration.policy()
        return Identities(
            database,
            policy,
            TokenSigner(secret, self._configuration.backend.jwt_algorithm, policy),
            token,
            predefined_tokens=self._configuration.backend.predefined_tokens,
            default_namespace=self._config.default_namespace,
            role_mappings_version=self._configuration.roles.role_mappings_version,
        )

    def _authentication(self, token: AdminToken) -> Authentication:
        authentication = self._configuration.authentication
        if isinstance(authentication, TokenAuthentication):
            authentication.admin_token = token
        return authentication

    def _web_options(self, secret: str, listener: Listener) -> WebOptions:
        app = self._app
        # Pages of other sites can't make a browser connect to a Unix socket.
        is_loopback = not listener.is_local and _is_loopback(listener.getsockname()[0])
        hosts = app.allowed_hosts or (list(LOOPBACK_HOSTS) if is_loopback else None)
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

    async def _serve(
        self,
        parts: Parts,
        server: ServerConfig,
        wakeups: Wakeups,
        duties: Duties,
        listener: Listener,
        web: Starlette,
    ) -> None:
        """Runs the HTTP server and the pool in one task group until a signal comes."""
        _room_changed(parts)
        async with asyncio.TaskGroup() as group:
            lasting = [
                group.create_task(self._run_pool(parts.pool), name="pool"),
                group.create_task(
                    serve_http(cast(Any, web), server, shutdown_trigger=self._until_stopped),
                    name="http",
                ),
            ]
            group.create_task(self._notifier.feed_watchdog(lasting), name="watchdog")
            beside = [
                group.create_task(parts.metrics.watch_loop(), name="event loop lag"),
                group.create_task(self._watch(parts, duties), name="watch paths"),
                group.create_task(parts.indexer.run(), name="package index"),
                group.create_task(
                    duties.run("collecting blobs", partial(self._collect, parts)),
                    name="collect blobs regularly",
                ),
                group.create_task(parts.storage.run(), name="storage"),
                group.create_task(keep_chronicle(parts), name="chronicle"),
                group.create_task(wakeups.run(), name="wake-ups"),
                *([group.create_task(parts.redis.run(), name="redis")] if parts.redis else []),
                group.create_task(
                    parts.disk.run(lambda: _room_changed(parts)), name="room on the disk"
                ),
                group.create_task(
                    self._notifier.tell_status(partial(summary, parts)), name="status"
                ),
                group.create_task(
                    self._signals.when_to_reload(partial(self._reload, parts, server, listener)),
                    name="reload",
                ),
                group.create_task(
                    take_over_for_ever(parts.database, parts.pool, parts.storage, parts.logs),
                    name="takeover",
                ),
                group.create_task(
                    follow_what_is_noticed(parts.database, parts.tally, parts.links),
                    name="lost changes",
                ),
            ]
            await self._signals.stopping.wait()
            for task in beside:
                task.cancel()
            left = f"{parts.pool.running} running builds have {self._worker.drain_timeout:g} s"
            # It may be longer than when the unit was printed.
            self._notifier.stopping(f"stopping; {left} to finish", self._worker.drain_timeout)
            logger.info("stopping; %s to finish", left)
            parts.logs.detach()
            await parts.pool.drain(self._worker.drain_timeout)

    async def _until_stopped(self) -> None:
        """What the HTTP server waits for, as soon as it answers."""
        self._notifier.tell(READY=1)
        await self._signals.stopping.wait()

    async def _reload(self, parts: Parts, server: ServerConfig, listener: Listener) -> None:
        """Reads the configuration again; one that is wrong changes nothing."""
        self._notifier.reloading()
        try:
            # The file is a program, which may take its time.
            new = await asyncio.to_thread(Configuration.read, self._arguments)
            server.read_certificate()
        except ConfigurationError as error:
            logger.error("the configuration is wrong, so nothing of it is taken over: %s", error)
            self._notifier.tell(READY=1, STATUS=f"the new configuration is wrong: {error}")
            return
        taken = self._configuration.take_over(new)
        self._pass_on(parts, server, listener)
        logger.info(
            "the configuration is read again; taken over: %s", ", ".join(taken) or "nothing"
        )
        self._notifier.tell(READY=1)

    def _pass_on(self, parts: Parts, server: ServerConfig, listener: Listener) -> None:
        """Gives the parts the settings that they don't look up themselves."""
        daemon_log.set_level(self._app.log_level)
        server.keep_alive_timeout = self._app.keep_alive_timeout
        listener.limit(self._app.max_connections)
        parts.pool.resize("builds", self._worker.concurrency or 1)
        parts.pool.resize("artifacts", self._worker.artifact_concurrency)
        parts.pool.limit(self._config.max_build_time, self._worker.max_attempts)
        parts.identities.follow(
            self._configuration.policy(), self._configuration.backend.predefined_tokens
        )
        # All parts share this one object, which only here is changed.
        settings = self._configuration.settings()
        for field in msgspec.structs.fields(settings):
            value = getattr(settings, field.name)
            msgspec.structs.force_setattr(parts.defaults, field.name, value)
        parts.pool.wake()

    async def _collect(self, parts: Parts, turn: Turn) -> None:
        await collect_regularly(parts.database, parts.pool, self._registry.collect_every, turn)

    async def _watch(self, parts: Parts, duties: Duties) -> None:
        if not self._worker.watch_paths:
            return
        # What it watches with is needed here only.
        from condastore.watcher import Watcher

        paths = [Path(path) for path in self._worker.watch_paths]
        await duties.run("watching files", lambda turn: Watcher(parts, paths, turn).run())

    async def _run_pool(self, pool: Pool) -> None:
        await sweep_at_start(self._store)
        await pool.run()

    async def _lock(self, stack: AsyncExitStack, *, shared: bool) -> None:
        """Keeps other daemons out; on PostgreSQL several may share a store."""
        lock = DirectoryLock(self._data / "daemon.lock")
        lock.acquire()
        stack.callback(lock.release)
        self._directory = lock.identity()
        self._owner = f"{self._directory}-{uuid.uuid4().hex[:16]}"
        self._store_lock = DirectoryLock(self._store.root / ".daemon.lock", PUBLIC)
        stack.callback(self._store_lock.release)
        if shared:
            self._alone = await asyncio.to_thread(self._store_lock.acquire_shared)
        else:
            self._store_lock.acquire()
            self._alone = True
        try:
            self._store.make()
            make_directory(self._data / "logs", PRIVATE)
        except OSError as error:
            raise unusable(
                error.filename,
                error,
                "make it a directory that this user may write to, or set "
                "c.CondaStore.data_directory and c.CondaStore.store_directory",
            ) from error

    def _listen(self) -> Listener:
        """Takes the port before the recovery begins; requests wait in it until it is over."""
        descriptor = inherited(os.environ)
        if descriptor is not None:
            listener = Listener.on_descriptor(descriptor)
        elif self._app.unix_socket:
            path = Path(self._app.unix_socket).absolute()
            listener = Listener.on_path(path, int(self._app.unix_socket_mode, 8))
        else:
            listener = Listener.on_port(self._app.address, self._app.port)
        listener.limit(self._app.max_connections)
        return listener

    def _hypercorn(self, listener: Listener) -> ServerConfig:
        config = ServerConfig(listener)
        config.certfile = self._app.certfile or None
        config.keyfile = self._app.keyfile or None
        config.read_certificate()
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

    def _locks(self, stack: AsyncExitStack) -> "RedisLocks | None":
        if not self._config.redis_url:
            return None
        from condastore.redis_locks import RedisLocks

        locks = RedisLocks(self._config.redis_url, self._owner, self._directory)
        stack.push_async_callback(locks.close)
        return locks

    def _secret(self) -> str:
        return self._configuration.backend.secret or keep_secret(self._data / "secret")

    def _announce(self, listener: Listener, token: AdminToken) -> None:
        """Prints where it serves. Standard output may be closed, or full."""
        scheme = "https" if self._app.certfile else "http"
        host, where = "localhost", ""
        if listener.is_local:
            where = f" on the Unix socket {listener.path}"
        else:
            address, port = listener.getsockname()[:2]
            host = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        url = f"{scheme}://{host}{self._app.url_prefix.rstrip('/')}"
        lines = [f"condastore {__version__} serves {url}/api/v1/{where}"]
        if is_journal(os.environ, STANDARD_OUTPUT):
            # More people may read that than may know the token.
            lines.append("the admin token, needed to change anything: see `condastore token`")
        elif self._app.print_token:
            lines.append(f"admin token, needed to change anything: {token.text}")
            if issubclass(self._app.authentication_class, TokenAuthentication):
                lines.append(f"to sign in, open {url}/login/?token={token.text}")
        text = "".join(f"{line}\n" for line in lines)
        if not daemon_log.write(STANDARD_OUTPUT, text.encode()):
            logger.warning("what the daemon serves can't be printed: standard output is closed")


def _room_changed(parts: Parts) -> None:
    """Lets what takes space run while there is some."""
    parts.pool.hold(() if parts.disk.problem is None else LANES_THAT_FILL)
    # Answers that were kept don't say so.
    parts.database.generation += 1


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
        SWITCH: housekeeping(remover.update_environment),
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
