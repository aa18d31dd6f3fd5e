"""Connections to a SQLite file, durable after a commit: SQLAlchemy's, and that of changes."""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

import aiosqlite
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from condastore.cancellation import uninterrupted

_ROWS_AT_ONCE = 1000
# SQLite's journal has 4 MB in everyday life; a larger one is cut to this when nobody needs it.
JOURNAL_BYTES = 16 * 2**20
_PRAGMAS = (
    "journal_mode=WAL",
    f"journal_size_limit={JOURNAL_BYTES}",
    "synchronous=FULL",
    "foreign_keys=ON",
    # Others than this daemon: a backup, or somebody's sqlite3 shell.
    "busy_timeout=10000",
)


class _Connection(aiosqlite.Connection):
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

    def __init__(self, connection: _Connection) -> None:
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


def sqlite_engine(url: URL, *, connections: int, begin: str, **options: Any) -> AsyncEngine:
    """Returns an engine with so many connections, whose transactions begin with `begin`."""
    engine = create_async_engine(
        url,
        async_creator=partial(_connect, url.database or ""),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=30,
        **options,
    )

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    @event.listens_for(engine.sync_engine, "handle_error")
    def on_error(context: ExceptionContext) -> None:
        # Otherwise SQLAlchemy would close the connection, and a cancellation while the next is
        # made would leave that one to the garbage collector.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    return engine


async def _connect(path: str) -> aiosqlite.Connection:
    # The driver's own BEGIN comes too late for a consistent read and is never IMMEDIATE.
    connect = partial(sqlite3.connect, path, isolation_level=None, check_same_thread=False)
    connection = _Connection(connect, iter_chunk_size=64)
    connection._thread.daemon = True
    try:
        await connection
    except BaseException:
        # Its thread ends by itself, but not before it has told the event loop.
        await asyncio.to_thread(connection._thread.join)
        raise
    try:
        for pragma in _PRAGMAS:
            await connection.execute(f"PRAGMA {pragma}")
    except BaseException:
        # SQLAlchemy would only tell its thread to stop, and not wait until it has.
        await connection.close()
        raise
    return connection


def connect_for_changes(path: str) -> sqlite3.Connection:
    """Returns a connection for the thread that makes changes. Raises `sqlite3.Error`."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    return connection
