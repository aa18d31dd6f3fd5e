"""What the failures of databases mean: whether they may pass, and what whoever asked is told."""

import asyncio
import logging
import random
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout

from condastore.errors import DatabaseConflict, DatabaseFull, DatabaseUnavailable, InvalidInput

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How often what met a deadlock is done in all, and at most how long after the last time.
_TRIES = 3
_PAUSE_S = 0.2

# Classes of PostgreSQL's errors that say nothing of the statement: lost connections, a want of
# resources, an administrator at work; and of those that others are the reason of: deadlocks and
# conflicts.
_PASSING = ("08", "53", "57")
_CONFLICT = "40"
_POSTGRESQL_DISK_FULL = "53100"
# Of a text from outside that has a NUL; SQLite finds nothing by it.
_POSTGRESQL_NO_CHARACTER = "22021"
# Of SQLite's: what other programs, the memory or the disk are to blame for. Any other is a defect,
# which would not pass however often it is tried.
_PASSING_SQLITE = (
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
)
_SQLITE_FULL = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR_SHMSIZE,
    sqlite3.SQLITE_IOERR_WRITE,
)


def connection_failures() -> tuple[type[Exception], ...]:
    """Returns what asyncpg raises when it can't connect, which SQLAlchemy lets through."""
    if "asyncpg" not in sys.modules:
        return (OSError,)
    import asyncpg

    return (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


@contextmanager
def explained() -> Iterator[None]:
    """Raises `DatabaseUnavailable` or `DatabaseFull` instead of a driver's error that may pass, and
    `InvalidInput` for what the database can't take; defects stay what they are."""
    try:
        yield
    except SQLAlchemyTimeout as error:
        logger.warning("all connections to the database are in use")
        raise DatabaseUnavailable from error
    except sqlite3.OperationalError as error:
        # Of the threads that go past SQLAlchemy.
        if _is_sqlite_full(error):
            raise _full() from error
        if not _passes_on_sqlite(error):
            raise
        logger.warning("the database can't be used: %s", error)
        raise DatabaseUnavailable from error
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None) or ""
        if state == _POSTGRESQL_NO_CHARACTER:
            raise InvalidInput(
                "a text has a NUL in it, which no name and no text can have"
            ) from error
        if state == _POSTGRESQL_DISK_FULL or _is_sqlite_full(error.orig):
            raise _full() from error
        if state.startswith(_CONFLICT):
            logger.warning("others changed the same at the same time: %s", error.orig)
            raise DatabaseConflict from error
        if error.connection_invalidated or _passes(error) or state.startswith(_PASSING):
            logger.warning("the database can't be used: %s", error.orig)
            raise DatabaseUnavailable from error
        raise


@contextmanager
def past_sqlalchemy() -> Iterator[None]:
    """Raises `DatabaseUnavailable` for the failures that `connection_failures` returns."""
    try:
        yield
    except connection_failures() as error:
        logger.warning("the database can't be reached: %s", error)
        raise DatabaseUnavailable from error


async def despite_conflicts(work: Callable[[], Awaitable[T]]) -> T:
    """Returns what `work` returns, all of which is done again when it met a deadlock.

    Raises `DatabaseConflict` when it did so several times.
    """
    for _ in range(_TRIES - 1):
        try:
            return await work()
        except DatabaseConflict:
            await asyncio.sleep(random.uniform(0, _PAUSE_S))
    return await work()


def _passes(error: DBAPIError) -> bool:
    """Whether a failure is to blame on what is around the database, and may pass."""
    if isinstance(error.orig, sqlite3.Error):
        return _passes_on_sqlite(error.orig)
    return isinstance(error, OperationalError | InterfaceError)


def _passes_on_sqlite(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _PASSING_SQLITE


def _full() -> DatabaseFull:
    logger.warning("the disk of the database takes no more")
    return DatabaseFull()


def _is_sqlite_full(error: BaseException | None) -> bool:
    """Whether SQLite's disk took no more: for its shared memory, and where a quota is used up (or
    the disk is broken), that is an error of input and output."""
    return getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL


def on_silence(context: ExceptionContext) -> Exception | None:
    """A server that doesn't answer, or a network that breaks, is no error of asyncpg's own, so
    that SQLAlchemy would let it through and keep the connection."""
    if not isinstance(context.original_exception, OSError):
        return None
    context.is_disconnect = True
    logger.warning(
        "the database does not answer: %s", str(context.original_exception) or "too slow"
    )
    return DatabaseUnavailable()
