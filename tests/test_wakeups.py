"""What daemons on one PostgreSQL hear of each other, and that a command is alone with it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from condastore.database import Database
from condastore.errors import ConfigurationError
from condastore.pool import Pool, Run, Stop, Work
from condastore.tasks import Claim, TaskQueue, enqueue
from condastore.wakeups import Wakeups, alone
from devtools.faultproxy import Silence, proxied
from devtools.servers import PostgreSQLServer
from tests.databases import fresh, opened


def nothing() -> None: ...


@asynccontextmanager
async def running(wakeups: Wakeups) -> AsyncIterator[None]:
    task = asyncio.create_task(wakeups.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_command_has_the_database_for_itself_or_says_that_it_has_not(
    postgresql: PostgreSQLServer,
) -> None:
    url, other_schema = await fresh(postgresql), await fresh(postgresql)
    async with opened(url) as database, opened(other_schema) as other:
        one, two = (Wakeups(database, nothing, nothing) for _ in range(2))
        elsewhere = Wakeups(other, nothing, nothing)
        await elsewhere.open()
        async with alone(database):
            with pytest.raises(ConfigurationError, match="wait until it is done"):
                await one.open()
        await one.open()
        await two.open()
        one.close()
        with pytest.raises(ConfigurationError, match="stop all daemons"):
            async with alone(database):
                pass
        two.close()
        async with asyncio.timeout(20):
            # The server finds out a moment later that a connection is gone.
            while not await is_free(database):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        elsewhere.close()


async def is_free(database: Database) -> bool:
    try:
        async with alone(database):
            return True
    except ConfigurationError:
        return False


async def test_f41_a_connection_that_dies_in_silence_costs_seconds(
    postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.wakeups.ASK_S", 0.2)
    monkeypatch.setattr("condastore.wakeups.ANSWER_S", 1.0)
    monkeypatch.setattr("condastore.wakeups.RECONNECT_S", 0.1)
    url = await fresh(postgresql)
    with proxied(postgresql.port) as proxy:
        silent = Database(url.replace(f":{postgresql.port}/", f":{proxy.port}/"))
        async with opened(url) as database:
            done: list[str] = []

            async def run(run: Run) -> None:
                done.append(run.claim.namespace)

            async def abandon(_: Claim, __: Stop | str) -> None: ...

            queue = TaskQueue(database, "one")
            pool = Pool(queue, {"x": Work(run, abandon, "lane")}, {"lane": 1}, poll_s=0.5)
            heard = asyncio.Event()

            def wake() -> None:
                heard.set()
                pool.wake()

            async with running(Wakeups(silent, wake, nothing)):
                working = asyncio.create_task(pool.run())
                async with asyncio.timeout(30):
                    await heard.wait()
                    proxy.trouble.silence = Silence.BOTH
                    async with database.write() as session:
                        enqueue(session, "x", "not told")
                    while done != ["not told"]:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    # It is found out, and then heard again.
                    while proxy.passed < 3:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                    heard.clear()
                    proxy.trouble.silence = Silence.NONE
                    await heard.wait()
                await pool.drain(10)
                await working
        await silent.close()
