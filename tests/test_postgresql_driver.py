"""Connections that broke while nobody used them."""

import asyncpg
import pytest
from sqlalchemy import select

from condastore.database import Database
from condastore.errors import DatabaseUnavailable
from condastore.tables import Namespace
from devtools.servers import PostgreSQLServer
from tests.databases import fresh, opened


async def look(database: Database) -> None:
    async with database.read() as session:
        assert (await session.scalars(select(Namespace))).all() == []


async def end_all_others(url: str) -> None:
    """Ends the connections of this URL's user, as a restart of the server does."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE usename = current_user AND pid != pg_backend_pid()"
        )
    finally:
        await connection.close()


async def test_what_was_idle_is_tried_before_it_is_used(
    postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await fresh(postgresql)
    async with opened(url) as database:
        await look(database)
        await end_all_others(url)
        # What was in use a moment ago is not; then none of them is used again.
        with pytest.raises(DatabaseUnavailable):
            await look(database)
        await look(database)
        monkeypatch.setattr("condastore.postgresql_driver.PING_AFTER_S", 0.0)
        await end_all_others(url)
        await look(database)
