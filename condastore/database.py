"""The one way to the database: transactions that read, and transactions that write.

SQLite has one writer at a time, so writers queue here instead of failing there; readers go on
beside it (WAL). On PostgreSQL both are ordinary sessions.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import event, make_url, text
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Float

from condastore.errors import ConfigurationError
from condastore.migrations import HEAD

_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_READERS = 4
_SQLITE_PRAGMAS = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    # Others than this daemon: a backup, or somebody's sqlite3 shell.
    "busy_timeout=10000",
)

T = TypeVar("T")


class epoch(FunctionElement[float]):  # noqa: N801 - reads as the SQL function that it is
    """Seconds since 1970 by the database's own clock."""

    inherit_cache = True
    type = Float()


@compiles(epoch, "sqlite")
def _sqlite_epoch(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(epoch, "postgresql")
def _postgresql_epoch(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"


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


class _SqliteConnection(sqlite3.Connection):
    """A connection whose transaction ends with it."""

    def close(self) -> None:
        """Rolls back first: a cursor that a cancellation left open would keep the transaction, and
        with it the write lock, alive beyond the close.
        """
        self.rollback()
        super().close()


class Database:
    """The engine and its two kinds of transaction."""

    def __init__(self, url: str, *, upgrade: bool = True) -> None:
        self._url = _async_url(url)
        self._upgrade = upgrade
        self._write_lock = asyncio.Lock() if self.is_sqlite else None
        self._writer = self._engine(readers=False)
        self._reader = self._engine(readers=True) if self.is_sqlite else self._writer

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, where one daemon owns the database."""
        return self._url.get_backend_name() == "sqlite"

    async def open(self) -> None:
        """Brings the schema up to date.

        Raises `ConfigurationError` if the database can't be reached, or its schema is newer than
        this program, or older and `upgrade_db` is off.
        """
        try:
            if self.is_sqlite and self._url.database:
                Path(self._url.database).parent.mkdir(parents=True, exist_ok=True)
            async with self._writer.begin() as connection:
                await connection.run_sync(self._migrate)
        except (SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise ConfigurationError(
                f"the database at CondaStore.database_url "
                f"({self._url.render_as_string(hide_password=True)}) can't be opened: {cause}"
            ) from error

    async def close(self) -> None:
        """Closes every connection."""
        await self._reader.dispose()
        await self._writer.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A session that sees one state of the database and changes nothing."""
        async with AsyncSession(self._reader, expire_on_commit=False) as session:
            yield session

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """A session that is committed, durably, at the end of the block, or rolled back."""
        if self._write_lock is None:
            async with (
                AsyncSession(self._writer, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session
            return
        async with (
            self._write_lock,
            AsyncSession(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def _engine(self, *, readers: bool) -> AsyncEngine:
        if not self.is_sqlite:
            return _postgresql_engine(self._url)
        engine = create_async_engine(
            self._url,
            # The driver's own BEGIN comes too late for a consistent read and is never IMMEDIATE.
            connect_args={"factory": _SqliteConnection, "isolation_level": None},
            pool_size=_READERS if readers else 1,
            max_overflow=0,
            pool_timeout=30,
        )
        _tune_sqlite(engine, begin="BEGIN" if readers else "BEGIN IMMEDIATE")
        return engine

    def _migrate(self, connection: Connection) -> None:
        current = _schema_version(connection)
        if current == HEAD:
            return
        if current is not None and not self._upgrade:
            raise ConfigurationError(
                f"the database's schema is {current}, this program needs {HEAD}: "
                "set c.CondaStore.upgrade_db = True"
            )
        # Alembic takes a third of a second to import, which a start on a current schema saves.
        from condastore.migrations.upgrade import upgrade

        upgrade(connection, current)


def _postgresql_engine(url: URL) -> AsyncEngine:
    try:
        return create_async_engine(url, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"CondaStore.database_url needs {error.name}: install condastore[postgresql]"
        ) from error


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


def _tune_sqlite(engine: AsyncEngine, begin: str) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        for pragma in _SQLITE_PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _schema_version(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    version: str | None = connection.execute(
        text("SELECT version_num FROM alembic_version")
    ).scalar()
    return version
