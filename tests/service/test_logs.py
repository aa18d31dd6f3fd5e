"""A log whose build goes from one daemon to another, and those who read it meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from condastore.access import ADMINISTRATOR, Caller
from condastore.build_rows import find_build, log_key
from condastore.builds import BuildStatus
from condastore.database import Database
from condastore.service.logs import follow_log, stored_key, tail
from condastore.storage import LocalStorage
from condastore.streams import Ended, LogHub, Text
from condastore.streams.redis import RedisLogs
from condastore.tables import Build
from devtools.servers import PostgreSQLServer, RedisServer, running
from tests.databases import fresh, opened
from tests.patience import PATIENCE_S
from tests.rows import add_build


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    with running(server):
        yield server


@asynccontextmanager
async def daemon(database: Database, directory: Path, redis_url: str) -> AsyncIterator[Any]:
    """The parts of a daemon that have to do with logs; the storage is shared."""
    async with AsyncExitStack() as stack:
        redis = RedisLogs(redis_url, 10**6) if redis_url else None
        storage = LocalStorage(storage_path=str(directory.parent / "storage"))
        logs = LogHub(directory, storage, 10**6, redis.publish if redis else None)
        stack.callback(logs.close)
        if redis is not None:
            publishing = asyncio.create_task(redis.run())
            stack.push_async_callback(redis.close)
            stack.push_async_callback(asyncio.wait, [publishing])
            stack.callback(publishing.cancel)
        yield SimpleNamespace(database=database, logs=logs, storage=storage, redis=redis)


async def again() -> Caller:
    return ADMINISTRATOR


async def read(parts: Any, build_id: int, seen: list[Any]) -> None:
    async for position in await follow_log(parts, again, build_id, 0):
        seen += [position]


def text_of(positions: list[Any]) -> str:
    """Returns the text of a log as a reader shows it who minds the offsets."""
    data = b""
    for position in positions:
        if isinstance(position, Text):
            data = data[: position.offset] + position.data
    return data.decode()


async def until(true: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("through", ["redis", "nothing"])
async def test_readers_follow_a_build_to_the_daemon_that_takes_it_over(
    through: str, postgresql: PostgreSQLServer, redis: RedisServer, tmp_path: Path
) -> None:
    url = redis.url if through == "redis" else ""
    async with (
        opened(await fresh(postgresql)) as database,
        daemon(database, tmp_path / "one", url) as one,
        daemon(database, tmp_path / "two", url) as two,
    ):
        build_id = await add_build(database, status=BuildStatus.BUILDING)
        async with database.read() as session:
            key = log_key(await find_build(session, build_id))
        one.logs.open(build_id, key).append("half done\n")
        seen: list[Any] = []
        reading = asyncio.create_task(read(one, build_id, seen))
        await until(lambda: text_of(seen) == "half done\n")
        # Given back, and claimed once more by the same daemon: it goes on.
        await one.logs.release(build_id)
        one.logs.open(build_id, key).append("more of it\n")
        await until(lambda: text_of(seen) == "half done\nmore of it\n")
        # The lease is lost; the other daemon begins anew.
        await one.logs.release(build_id)
        two.logs.open(build_id, key).append("done by another\n")
        async with database.write() as session:
            build = await session.get(Build, build_id)
            assert build is not None
            build.status = BuildStatus.COMPLETED
        # Its row is final a moment before its log is.
        await asyncio.sleep(0.1)
        await two.logs.end(build_id, key, BuildStatus.COMPLETED)
        async with asyncio.timeout(PATIENCE_S):
            await reading
        assert seen[-1] == Ended("COMPLETED")
        assert text_of(seen) == "done by another\n"
        # What the first one wrote is still there, and is not the log.
        assert one.logs.file(key) is not None
        assert await tail(one, ADMINISTRATOR, build_id, 1000) == (16, "done by another\n")
        assert await stored_key(one, ADMINISTRATOR, build_id) == key
