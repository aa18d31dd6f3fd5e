"""Connections to PostgreSQL: how many, for how long one waits, and which are tried before use."""

import math
import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from condastore.database_failures import on_silence
from condastore.errors import ConfigurationError

# For a free connection, a new one, and a statement.
POOL_S = 10
CONNECT_S = 10
COMMAND_S = 60
# A connection that was idle for longer is tried before it is used.
PING_AFTER_S = 1.0
_USED_AT = "condastore used at"


def postgresql_engine(url: URL, connections: int, **options: Any) -> AsyncEngine:
    """Returns an engine with at most so many connections. Raises `ConfigurationError` where the
    driver is missing."""
    try:
        engine = create_async_engine(
            url,
            pool_size=connections,
            max_overflow=0,
            pool_timeout=POOL_S,
            connect_args={"timeout": CONNECT_S, "command_timeout": COMMAND_S},
            **options,
        )
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"CondaStore.database_url needs {error.name}: install condastore[postgresql]"
        ) from error
    event.listen(engine.sync_engine, "handle_error", on_silence)
    _ping_what_was_idle(engine.sync_engine)
    return engine


def _ping_what_was_idle(engine: Engine) -> None:
    """Connections are tried before they are used again, which is three journeys to the server; one
    that was used a moment ago is not, as it was well then."""

    @event.listens_for(engine, "checkin")
    def on_checkin(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[_USED_AT] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def on_checkout(connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        # A new one has not been used.
        if time.monotonic() - record.info.get(_USED_AT, math.inf) < PING_AFTER_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error


async def ping_server(dsn: str) -> None:
    """Asks the server whether it answers, on a connection of its own; raises what asyncpg does if
    it doesn't."""
    import asyncpg

    connection = await asyncpg.connect(dsn, timeout=CONNECT_S)
    try:
        await connection.fetchval("SELECT 1", timeout=CONNECT_S)
    finally:
        connection.terminate()
