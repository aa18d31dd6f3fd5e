"""What one daemon does at a time, whatever becomes of Redis: nobody writes out of his turn."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from condastore.database import Database
from condastore.duties import Duties, Turn, TurnOver
from condastore.errors import ConfigurationError
from condastore.redis_locks import RedisLocks
from condastore.tables import Namespace
from devtools.faultproxy import proxied
from devtools.servers import PostgreSQLServer, RedisServer, running
from tests.databases import fresh, opened

DUTY = "a duty"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for the tests that leave it running."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    with running(server):
        yield server


@pytest.fixture
async def redis(shared: RedisServer) -> RedisServer:
    """The same server, empty and with as much memory as it wants."""
    async with Redis.from_url(shared.url) as client:
        await client.config_set("maxmemory", "0")
        await client.flushall()
    return shared


@pytest.fixture
async def database(postgresql: PostgreSQLServer) -> AsyncIterator[Database]:
    async with opened(await fresh(postgresql)) as found:
        yield found


@asynccontextmanager
async def daemon(
    database: Database, url: str | None, directory: str | None = None
) -> AsyncIterator[Duties]:
    """The duties of one daemon, which may be on a directory that another was on before."""
    owner = f"{directory}-{uuid.uuid4().hex}"
    locks = RedisLocks(url, owner, directory) if url else None
    yield Duties(database, locks, owner, directory)
    if locks is not None:
        await locks.close()


async def begun(daemon: Duties) -> Turn:
    """Returns a turn as soon as it is this daemon's."""
    async with asyncio.timeout(60):
        while (turn := await daemon.begin(DUTY)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return turn


async def write(database: Database, turn: Turn, name: str = "x") -> None:
    async with database.write() as session:
        await turn.check(session)
        session.add(Namespace(name=name))


@pytest.mark.parametrize("has_redis", [True, False])
async def test_one_has_a_turn_and_the_next_comes_after_it(
    database: Database, redis: RedisServer, has_redis: bool
) -> None:
    url = redis.url if has_redis else None
    async with daemon(database, url) as one, daemon(database, url) as two:
        numbers = []
        for holder, other in ((one, two), (two, one), (one, two)):
            turn = await begun(holder)
            assert turn.by_row is not has_redis
            assert await other.begin(DUTY) is None
            assert await holder.renew(turn)
            await write(database, turn, f"n{turn.number}")
            numbers.append(turn.number)
            await holder.end(turn)
            # Another duty is another matter.
            assert await other.begin(f"{DUTY} {turn.number}") is not None
        assert numbers == [1, 2, 3]


async def test_f42_who_lost_his_turn_without_knowing_it_writes_nothing(
    database: Database, redis: RedisServer
) -> None:
    async with daemon(database, redis.url) as one, daemon(database, redis.url) as two:
        for _ in range(3):
            turn = await begun(one)
            await one.end(turn)
        stale = await begun(one)
        await write(database, stale, "in turn")
        # Redis restarts empty, and counts from 1 again; what the row says runs out.
        async with Redis.from_url(redis.url) as client:
            await client.flushall()
        assert await two.begin(DUTY) is None
        await one.end(Turn(DUTY, stale.number, by_row=True))
        turn = await begun(two)
        assert turn.number is not None and stale.number is not None
        assert turn.number > stale.number
        with pytest.raises(TurnOver):
            await write(database, stale)
        assert not await one.renew(stale)
        await write(database, turn, "by the heir")
        async with database.read() as session:
            assert await session.scalar(select(func.count()).select_from(Namespace)) == 2


async def test_the_turn_of_a_daemon_that_died_ends_with_its_lease(
    database: Database, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.duties.LEASE_S", 1.0)
    monkeypatch.setattr("condastore.redis_locks.LEASE_S", 1.0)
    for url in (redis.url, None):
        async with daemon(database, url) as dead, daemon(database, url) as alive:
            assert await dead.begin(DUTY) is not None
            turn = await begun(alive)
            await alive.end(turn)


@pytest.mark.parametrize("has_redis", [True, False])
async def test_the_next_daemon_on_a_directory_does_not_wait_for_the_dead_one(
    database: Database, redis: RedisServer, has_redis: bool
) -> None:
    url = redis.url if has_redis else None
    async with (
        daemon(database, url, "here") as dead,
        daemon(database, url, "there") as other,
        daemon(database, url, "here") as heir,
    ):
        lost = await dead.begin(DUTY)
        assert lost is not None
        assert await other.begin(DUTY) is None
        turn = await heir.begin(DUTY)
        assert turn is not None and turn.by_row is not has_redis
        await write(database, turn)
        with pytest.raises(TurnOver):
            await write(database, lost)


async def test_f42_without_redis_the_row_is_the_lock(database: Database, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    async with daemon(database, server.url) as one, daemon(database, server.url) as two:
        # Absent at the start.
        turn = await begun(one)
        assert turn.by_row and await two.begin(DUTY) is None
        assert await one.renew(turn)
        with running(server):
            # It is back, and knows nothing: the row counts still.
            assert await two.begin(DUTY) is None
            await write(database, turn)
            await one.end(turn)
            turn = await begun(two)
            assert not turn.by_row
            server.kill()
            await two.end(turn)
            assert (await begun(one)).by_row


async def test_f42_a_full_or_slow_redis_is_as_none(
    database: Database, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.streams.redis.ANSWER_S", 0.5)
    async with daemon(database, redis.url) as one, Redis.from_url(redis.url) as client:
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")
        turn = await begun(one)
        assert turn.by_row
        await one.end(turn)
        await client.config_set("maxmemory", "0")
        turn = await begun(one)
        assert not turn.by_row
        await one.end(turn)
    with proxied(redis.port) as proxy:
        proxy.trouble.delay_s = 20
        async with daemon(database, redis.url.replace(f":{redis.port}/", f":{proxy.port}/")) as two:
            assert (await begun(two)).by_row


async def test_work_ends_with_its_turn_and_begins_again(
    database: Database, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.duties.RENEW_S", 0.1)
    monkeypatch.setattr("condastore.duties.TRY_S", 0.1)
    began: list[int | None] = []
    ended: list[int | None] = []

    async def work(turn: Turn) -> None:
        began.append(turn.number)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(turn.number)

    async with daemon(database, redis.url) as one:
        running_ = asyncio.create_task(one.run(DUTY, work))
        async with asyncio.timeout(60):
            while not began:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            async with Redis.from_url(redis.url) as client:
                await client.flushall()
            while began[1:] == [] or began[0] not in ended:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        running_.cancel()
        await asyncio.wait([running_])
        assert began == ended and len(set(began)) == len(began)


async def test_on_sqlite_it_is_always_this_daemons_turn_also_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.duties.TRY_S", 0.01)
    failures = iter([RuntimeError("the watch broke"), LookupError()])
    done = asyncio.Event()

    async with opened(f"sqlite:///{tmp_path / 'a.sqlite'}") as database:

        async def work(turn: Turn) -> None:
            async with database.write() as session:
                await turn.check(session)
            for failure in failures:
                raise failure
            done.set()
            await asyncio.Event().wait()

        running_ = asyncio.create_task(Duties(database, None, "me").run(DUTY, work))
        async with asyncio.timeout(60):
            await done.wait()
        running_.cancel()
        await asyncio.wait([running_])
        assert running_.cancelled()


def test_a_url_that_is_none_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"CondaStore\.redis_url"):
        RedisLocks("nonsense://x", "me")
