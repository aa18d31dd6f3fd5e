"""Connections that broke while nobody used them."""

import asyncio
from threading import Thread

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


def end_unnoticed(url: str) -> None:
    """The same, and the event loop has no time to hear of it."""
    thread = Thread(target=lambda: asyncio.run(end_all_others(url)))
    thread.start()
    thread.join()


@pytest.fixture
async def url(postgresql: PostgreSQLServer) -> str:
    return await fresh(postgresql)


async def test_one_that_is_known_to_have_ended_is_not_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.postgresql_driver.PING_AFTER_S", 60.0)
    async with opened(url) as database:
        await look(database)
        await end_all_others(url)
        await asyncio.sleep(0.1)
        await look(database)


async def test_one_that_was_idle_is_tried_before_it_is_used(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.postgresql_driver.PING_AFTER_S", 0.0)
    async with opened(url) as database:
        await look(database)
        end_unnoticed(url)
        await look(database)


async def test_one_that_was_used_a_moment_ago_is_not_tried_and_fails_once(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.postgresql_driver.PING_AFTER_S", 60.0)
    async with opened(url) as database:
        await asyncio.gather(*(look(database) for _ in range(5)))
        end_unnoticed(url)
        with pytest.raises(DatabaseUnavailable):
            await look(database)
        await asyncio.gather(*(look(database) for _ in range(5)))
