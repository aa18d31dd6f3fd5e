"""The one way to the database: transactions that read, and transactions that write.

SQLite has one writer at a time, so writers queue here instead of failing there; readers go on
beside it (WAL). On PostgreSQL both are ordinary sessions.
"""

import asyncio
import json
import logging
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Column, MetaData, String, Table, func, inspect, make_url, select, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from condastore.changes import Change, PostgresqlChanges, SqliteChanges
from condastore.database_failures import connection_failures, explained, past_sqlalchemy
from condastore.errors import ConfigurationError, DatabaseFull, DatabaseUnavailable, NotYet
from condastore.faults import fault
from condastore.files import move_file
from condastore.migrations import HEAD
from condastore.postgresql_driver import ping_server, postgresql_engine
from condastore.sqlite_driver import connect_for_changes, sqlite_engine
from condastore.tables import Base
from condastore.views import ConnectionView, Rows, SqliteReaders, Values, View

logger = logging.getLogger(__name__)

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_READERS = 4
# Any number that nobody else locks by: "cond" in ASCII.
_MIGRATION_LOCK = 0x636F6E64
INSIST_S = (0.2, 0.5, 1, 2, 4, 8, 15, 30)
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
        self._changes = (
            SqliteChanges(self._writing)
            if self.is_sqlite
            else PostgresqlChanges(self._writer, self._writing)
        )

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
            if isinstance(self._changes, SqliteChanges):
                self._changes.start(connect_for_changes(self._url.database or ""))
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
        if isinstance(self._changes, SqliteChanges):
            await self._changes.close()
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
        await ping_server(self.dsn)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session that is committed, durably, at the end of the block, or rolled back."""
        with self._explained():
            async with (
                self._writing(),
                AsyncSession(self._writer, expire_on_commit=False) as session,
                session.begin(),
            ):
                await self._connect_session(session)
                yield session

    async def change(self, change: Change, values: Values) -> Rows:
        """Returns what a change says of the rows, if it does, as soon as it is durable.

        If the database is lost before it answers, or this is cancelled, it may be made all the
        same.
        """
        with self._explained():
            return await self._changes.make(change, values)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """What is written within the block has SQLite for itself."""
        async with self._write_lock:
            try:
                yield
            finally:
                # A write that is cancelled while it commits is written all the same.
                self.generation += 1

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            with explained():
                yield
        except DatabaseFull:
            if self.on_full is not None:
                self.on_full()
            raise

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
        if not self.is_sqlite:
            with past_sqlalchemy():
                await session.connection()

    def _engine(self, *, readers: bool) -> AsyncEngine:
        if not self.is_sqlite:
            return postgresql_engine(
                self._url,
                self._connections,
                json_serializer=_to_json,
                json_deserializer=_from_json,
            )
        return sqlite_engine(
            self._url,
            connections=_READERS if readers else 1,
            begin="BEGIN" if readers else "BEGIN IMMEDIATE",
            json_serializer=_to_json,
            json_deserializer=_from_json,
        )

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


def _schema_version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version
