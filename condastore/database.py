"""The one way to the database: transactions that read, and transactions that write.

SQLite has one writer at a time, so writers queue here instead of failing there; readers go on
beside it (WAL). On PostgreSQL both are ordinary sessions.
"""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import msgspec
from sqlalchemy import Column, MetaData, String, Table, event, func, inspect, make_url, select, text
from sqlalchemy.engine import URL, Connection, ExceptionContext
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from condastore.changes import Changes, ConnectionChanges, committed
from condastore.database_failures import connection_failures, explained, on_silence
from condastore.errors import ConfigurationError, DatabaseFull, DatabaseUnavailable, NotYet
from condastore.faults import fault
from condastore.files import move_file
from condastore.migrations import HEAD
from condastore.sqlite import SqliteThreads
from condastore.tables import Base
from condastore.views import ConnectionView, SqliteReaders, View

logger = logging.getLogger(__name__)

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_READERS = 4
_ROWS_AT_ONCE = 1000
# On PostgreSQL: for a free connection, a new one, and a statement.
POOL_S = 10
CONNECT_S = 10
COMMAND_S = 60
# Any number that nobody else locks by: "cond" in ASCII.
_MIGRATION_LOCK = 0x636F6E64
INSIST_S = (0.2, 0.5, 1, 2, 4, 8, 15, 30)
# SQLite's journal has 4 MB in everyday life; a larger one is cut to this when nobody needs it.
JOURNAL_BYTES = 16 * 2**20
_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    f"journal_size_limit={JOURNAL_BYTES}",
    "synchronous=FULL",
    "foreign_keys=ON",
    # Others than this daemon: a backup, or somebody's sqlite3 shell.
    "busy_timeout=10000",
)

T = TypeVar("T")


class epoch(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's own clock, when the statement began."""

    inherit_cache = True
    type = Float()


@compiles(epoch, "sqlite")
def _sqlite_epoch(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch, "postgresql")
def _postgresql_epoch(*_: Any, **__: Any) -> str:
    # The same for all of a statement, so that PostgreSQL looks for it in an index.
    return "extract(epoch from statement_timestamp())"


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Returns what `work` returns; a cancellation waits until it has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


class _SqliteConnection(aiosqlite.Connection):
    """A connection whose statements end before a cancellation goes on.

    Its thread can't be stopped within one. So a cancelled transaction can be rolled back like any
    other, and nothing holds SQLite's write lock that nobody knows of.
    """

    async def _execute(self, fn: Any, *args: Any, **kwargs: Any) -> Any:
        work = super()._execute(fn, *args, **kwargs)  # type: ignore[no-untyped-call]
        return await uninterrupted(work)

    def cursor(self) -> Any:
        return _Cursor(self)


class _Cursor:
    """A cursor whose statement, with its rows if they are few, is one visit to the thread.

    The driver's own needs four, for the cursor, the statement, the rows and the end of the cursor.
    """

    arraysize = 1

    def __init__(self, connection: _SqliteConnection) -> None:
        self._connection = connection
        self._cursor: sqlite3.Cursor | None = None
        self._rows: list[Any] = []
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None

    async def __aenter__(self) -> "_Cursor":
        return self

    async def execute(self, sql: str, values: Any = ()) -> None:
        await self._connection._execute(self._run, sqlite3.Cursor.execute, sql, values)

    async def executemany(self, sql: str, values: Any) -> None:
        await self._connection._execute(self._run, sqlite3.Cursor.executemany, sql, values)

    async def fetchall(self) -> list[Any]:
        rows, self._rows = self._rows, []
        if self._cursor is not None:
            rows += await self._connection._execute(self._cursor.fetchall)
            await self.close()
        return rows

    async def fetchmany(self, size: int = arraysize) -> list[Any]:
        if len(self._rows) < size and self._cursor is not None:
            self._rows += await self._connection._execute(self._cursor.fetchmany, size)
        rows, self._rows = self._rows[:size], self._rows[size:]
        return rows

    async def fetchone(self) -> Any:
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def close(self) -> None:
        if self._cursor is not None:
            await self._connection._execute(self._cursor.close)
            self._cursor = None

    def _run(self, execute: Callable[..., sqlite3.Cursor], sql: str, values: Any) -> None:
        """Runs in the thread."""
        cursor = execute(self._connection._conn.cursor(), sql, values)
        self.description = cursor.description
        self._rows = cursor.fetchmany(_ROWS_AT_ONCE) if cursor.description else []
        self.rowcount, self.lastrowid = cursor.rowcount, cursor.lastrowid
        if len(self._rows) == _ROWS_AT_ONCE:
            self._cursor = cursor
        else:
            cursor.close()


class Database:
    """The engine and its two kinds of transaction."""

    def __init__(self, url: str, *, upgrade: bool = True, connections: int = 10) -> None:
        """`connections` limits how many this process has to PostgreSQL at once."""
        self._url = _async_url(url)
        self._upgrade = upgrade
        self._connections = connections
        self._write_lock = asyncio.Lock() if self.is_sqlite else nullcontext()
        self._writer = self._engine(readers=False)
        self._reader = (
            self._engine(readers=True)
            if self.is_sqlite
            else self._writer.execution_options(isolation_level="REPEATABLE READ")
        )
        self._views = SqliteReaders(self._url.database or "", _READERS) if self.is_sqlite else None
        self._changes = SqliteThreads("writer") if self.is_sqlite else None

    generation = 0
    """Grows with every write of this process."""

    on_full: Callable[[], None] | None = None
    """Is called when its disk was full."""

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, where one daemon owns the database."""
        return self._url.get_backend_name() == "sqlite"

    @property
    def directory(self) -> Path | None:
        """Where the file of SQLite is."""
        return Path(self._url.database or "").parent if self.is_sqlite else None

    @property
    def dsn(self) -> str:
        """The URL as PostgreSQL's own clients read it; with its password."""
        return self._url.set(drivername="postgresql").render_as_string(hide_password=False)

    @property
    def journal_bytes(self) -> int:
        """The size of SQLite's journal, which grows while somebody reads one state of it."""
        journal = Path(f"{self._url.database}-wal")
        try:
            return journal.stat().st_size if self.is_sqlite else 0
        except FileNotFoundError:
            return 0

    async def open(self) -> None:
        """Brings the schema up to date.

        Raises `ConfigurationError` if the database can't be reached, or its schema is newer than
        this program, or older and `upgrade_db` is off.
        """
        failures: tuple[type[Exception], ...] = (
            SQLAlchemyError,
            sqlite3.Error,
            *connection_failures(),
        )
        try:
            if self.is_sqlite:
                self._make_file()
                await self._back_up()
            async with (
                self._writer.connect() as connection,
                self._without_foreign_keys(connection),
                connection.begin(),
            ):
                await connection.run_sync(self._migrate)
            if self.is_sqlite:
                await self._connect_readers()
            if self._views is not None:
                self._views.start()
            if self._changes is not None:
                self._changes.start([_connect_writer(self._url.database or "")])
        except failures as error:
            cause = getattr(error, "orig", None) or error
            raise NotYet(
                f"the database at CondaStore.database_url "
                f"({self._url.render_as_string(hide_password=True)}) can't be opened: "
                f"{str(cause) or 'it does not answer'}"
            ) from error

    async def close(self) -> None:
        """Closes every connection."""
        if self._views is not None:
            await asyncio.to_thread(self._views.close)
        if self._changes is not None:
            await asyncio.to_thread(self._changes.close)
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and changes nothing.

        This and the others raise `DatabaseUnavailable`.
        """
        with explained():
            async with AsyncSession(self._reader, expire_on_commit=False) as session:
                await self._connect_session(session)
                yield session

    async def view(self, work: Callable[[View], T]) -> T:
        """Returns what `work` returns, which sees one state of the database.

        It runs in a thread, so it holds up nobody and uses nothing that belongs to the event loop.
        """
        if self._views is not None:
            with explained():
                return await self._views.view(work, self.generation)
        async with self.read() as session:
            connection = await session.connection()
            return await connection.run_sync(lambda found: work(ConnectionView(found)))

    async def ping(self) -> None:
        """Asks the database whether it answers; raises what its driver does if it doesn't.

        On PostgreSQL this takes no connection of the pool: that all of them are busy is no fault.
        """
        if self.is_sqlite:
            async with self.read() as session:
                await session.execute(select(1))
            return
        import asyncpg

        connection = await asyncpg.connect(self.dsn, timeout=CONNECT_S)
        try:
            await connection.fetchval("SELECT 1", timeout=CONNECT_S)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session that is committed, durably, at the end of the block, or rolled back."""
        async with (
            self._writing(),
            AsyncSession(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            await self._connect_session(session)
            yield session

    async def change(self, work: Callable[[Changes], T]) -> T:
        """Returns what `work` returns in a transaction like that of `write`.

        It runs in a thread, so it uses nothing that belongs to the event loop.
        """
        if self._changes is not None:
            async with self._writing():
                return await uninterrupted(self._changes.do(partial(committed, work)))
        async with self.write() as session:
            connection = await session.connection()
            return await connection.run_sync(lambda found: work(ConnectionChanges(found)))

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """What is written within the block has SQLite for itself."""
        try:
            with explained():
                async with self._write_lock:
                    yield
        except DatabaseFull:
            if self.on_full is not None:
                self.on_full()
            raise
        finally:
            # A write that is cancelled while it commits is written all the same.
            self.generation += 1

    async def insist(
        self, work: Callable[[AsyncSession], Awaitable[T]], *, writes: bool = True
    ) -> T:
        """Returns what `work` returns, committed; while the database is away it is tried again.

        It may be committed although the answer is lost, and then runs once more. What only reads
        sees one state of the database. Raises `DatabaseUnavailable` after a while.
        """
        for delay in (*INSIST_S, None):
            try:
                async with self.write() if writes else self.read() as session:
                    return await work(session)
            except DatabaseUnavailable:
                if delay is None:
                    raise
            await asyncio.sleep(delay)
        raise AssertionError("unreachable")

    async def _connect_session(self, session: AsyncSession) -> None:
        if self.is_sqlite:
            return
        try:
            await session.connection()
        except connection_failures() as error:
            # asyncpg's own failures to connect come as they are.
            logger.warning("the database can't be reached: %s", error)
            raise DatabaseUnavailable from error

    def _engine(self, *, readers: bool) -> AsyncEngine:
        if not self.is_sqlite:
            return _postgresql_engine(self._url, self._connections)
        engine = create_async_engine(
            self._url,
            async_creator=partial(_connect, self._url.database or ""),
            pool_size=_READERS if readers else 1,
            max_overflow=0,
            pool_timeout=30,
            json_serializer=_to_json,
            json_deserializer=_from_json,
        )
        _tune_sqlite(engine, begin="BEGIN" if readers else "BEGIN IMMEDIATE")
        return engine

    @asynccontextmanager
    async def _without_foreign_keys(self, connection: AsyncConnection) -> AsyncIterator[None]:
        """A revision may replace a table that others refer to; within a transaction it is too late.

        On PostgreSQL tables are altered in place.
        """
        if not self.is_sqlite:
            yield
            return
        driver: Any = (await connection.get_raw_connection()).driver_connection
        await driver.execute("PRAGMA foreign_keys=OFF")
        try:
            yield
        finally:
            await driver.execute("PRAGMA foreign_keys=ON")

    async def _connect_readers(self) -> None:
        """Makes all connections now, where no cancellation comes in between."""
        async with AsyncExitStack() as stack:
            for _ in range(_READERS):
                await stack.enter_async_context(self._reader.connect())

    async def schema_version(self) -> str | None:
        """Returns the schema's revision; None where there is no schema yet."""
        async with self._writer.connect() as connection:
            return await connection.run_sync(_schema_version)

    async def check(self) -> list[str]:
        """Returns what is wrong with the schema and the rows, a sentence each."""
        version = await self.schema_version() if self.is_made() else None
        if version is None:
            return ["there is no schema yet: the daemon makes it when it starts"]
        if version != HEAD:
            what = "upgrade it: condastore db upgrade" if version < HEAD else "it is newer"
            return [f"the schema is {version}, this program needs {HEAD}; {what}"]
        if not self.is_sqlite:
            return []
        async with self._reader.connect() as connection:
            damage = (await connection.execute(text("PRAGMA integrity_check"))).scalars().all()
            orphans = (await connection.execute(text("PRAGMA foreign_key_check"))).all()
        found = [f"the file is damaged: {line}" for line in damage if line != "ok"]
        return found + [f"{row[0]} row {row[1]} refers to no row of {row[2]}" for row in orphans]

    def is_made(self) -> bool:
        """Whether there can be a schema; opening a SQLite file would make it."""
        return not self.is_sqlite or Path(self._url.database or "").exists()

    async def _back_up(self) -> None:
        """Copies a SQLite file that will be migrated, beside it and named after its revision."""
        path = Path(self._url.database or "")
        if not self.is_made():
            return
        version = await self.schema_version()
        if version is None or version >= HEAD or not self._upgrade:
            return
        backup = path.with_name(f"{path.name}.{version}")
        await asyncio.to_thread(_copy_sqlite, path, backup)
        logger.info(
            "the database is brought from %s to %s; before it was %s", version, HEAD, backup
        )

    def _make_file(self) -> None:
        """Makes a new file such that other accounts can't read what is in it, or lock it."""
        path = Path(self._url.database or "")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)

    def half_made_backups(self) -> list[Path]:
        """Returns what upgrades that were killed have left beside a SQLite file."""
        path = Path(self._url.database or "")
        names = re.compile(re.escape(path.name) + r"\.\d{4}\.new")
        beside = path.parent.iterdir() if self.is_sqlite and self.is_made() else ()
        return sorted(found for found in beside if names.fullmatch(found.name))

    def _migrate(self, connection: Connection) -> None:
        if not self.is_sqlite:
            # Several daemons may start at once; the others find the work done.
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
        current = _schema_version(connection)
        if current == HEAD:
            return
        if current is not None and not self._upgrade:
            raise ConfigurationError(
                f"the database's schema is {current}, this program needs {HEAD}: "
                "set c.CondaStore.upgrade_db = True"
            )
        if not inspect(connection).get_table_names():
            _create(connection)
            return
        # It takes a third of a second to import, which a start on a new or current schema saves.
        from condastore.migrations.upgrade import upgrade

        upgrade(connection, current)


def insert_into(session: AsyncSession, table: Any) -> Any:
    """Returns an INSERT that can say what becomes of rows that are there already."""
    # Only the dialect in use: PostgreSQL's takes longer to import than all of condastore.
    dialect = import_module(f"sqlalchemy.dialects.{session.get_bind().dialect.name}")
    return dialect.insert(table)


def _copy_sqlite(path: Path, backup: Path) -> None:
    """Makes a durable copy of what is committed, also of what is still in the journal."""
    unfinished = backup.with_name(f"{backup.name}.new")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(unfinished)) as target:
        source.backup(target)
    fault("upgrade.copied")
    move_file(unfinished, backup)


def _create(connection: Connection) -> None:
    """Makes the newest schema at once; a test holds it against that of the revisions."""
    metadata = MetaData()
    for table in Base.metadata.tables.values():
        # On PostgreSQL their making changes them: a constraint that comes later is taken out.
        table.to_metadata(metadata)
    metadata.create_all(connection)
    version = Table(
        "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
    )
    version.create(connection)
    connection.execute(version.insert().values(version_num=HEAD))


def _postgresql_engine(url: URL, connections: int) -> AsyncEngine:
    try:
        engine = create_async_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_S,
            pool_pre_ping=True,
            connect_args={"timeout": CONNECT_S, "command_timeout": COMMAND_S},
            json_serializer=_to_json,
            json_deserializer=_from_json,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"CondaStore.database_url needs {error.name}: install condastore[postgresql]"
        ) from error
    event.listen(engine.sync_engine, "handle_error", on_silence)
    return engine


def _to_json(value: Any) -> str:
    """Returns a value as JSON; `json.dumps` takes ten times as long, and lets nobody else run."""
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        # Such as half a character, which is no UTF-8.
        return json.dumps(value)


def _from_json(text: str) -> Any:
    """Returns the value of a JSON text."""
    try:
        return msgspec.json.decode(text)
    except ValueError:
        return json.loads(text)


def _async_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(
            f"CondaStore.database_url is not a database URL: {error}"
        ) from error
    backend = parsed.get_backend_name()
    if backend not in _DRIVERS:
        raise ConfigurationError(
            f"CondaStore.database_url names {backend!r}; condastore works with sqlite and "
            "postgresql"
        )
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigurationError(
            "CondaStore.database_url names no file; a database in memory would not outlive the "
            "daemon"
        )
    return parsed.set(drivername=_DRIVERS[backend])


async def _connect(path: str) -> aiosqlite.Connection:
    # The driver's own BEGIN comes too late for a consistent read and is never IMMEDIATE.
    connect = partial(sqlite3.connect, path, isolation_level=None, check_same_thread=False)
    connection = _SqliteConnection(connect, iter_chunk_size=64)
    connection._thread.daemon = True
    try:
        await connection
    except BaseException:
        # Its thread ends by itself, but not before it has told the event loop.
        await asyncio.to_thread(connection._thread.join)
        raise
    try:
        for pragma in _SQLITE_PRAGMAS:
            await connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        # SQLAlchemy would only tell its thread to stop, and not wait until it has.
        await connection.close()
        raise
    return connection


def _connect_writer(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in _SQLITE_PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _tune_sqlite(engine: AsyncEngine, begin: str) -> None:
    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    @event.listens_for(engine.sync_engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        # Otherwise SQLAlchemy would close the connection, and a cancellation while the next is
        # made would leave that one to the garbage collector.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False


def _schema_version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version
