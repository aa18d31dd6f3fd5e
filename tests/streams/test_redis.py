"""Logs through a real Redis: shown to others, lost without harm, never larger than allowed."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from condastore.errors import ConfigurationError
from condastore.streams import BuildLog, Ended, Happened, Position, Text
from condastore.streams.redis import RedisLogs, client
from devtools.servers import RedisServer, running
from tests.patience import PATIENCE_S

KEY = "logs/a.log"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    with running(server):
        yield server


@asynccontextmanager
async def opened(server: RedisServer, stream_bytes: int = 1024**2) -> AsyncIterator[RedisLogs]:
    logs = RedisLogs(server.url, stream_bytes)
    publishing = asyncio.create_task(logs.run())
    try:
        yield logs
    finally:
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        await logs.close()


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as found:
        yield found


async def followed(logs: RedisLogs, offset: int = 0) -> list[Position]:
    async with asyncio.timeout(PATIENCE_S):
        return [position async for position in logs.follow(KEY, offset) if position is not None]


def text_of(positions: list[Position]) -> str:
    return b"".join(p.data for p in positions if isinstance(p, Text)).decode()


async def test_another_daemon_reads_text_events_and_the_end(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server) as writer, opened(server) as reader:
        log = BuildLog(tmp_path / "a.log", 10**6, executor)
        writer.publish(KEY, log)
        readers = [asyncio.create_task(followed(reader, offset)) for offset in (0, 4, 7)]
        lines = [f"line {number} ü\n" for number in range(500)]
        log.happened({"event": "phase", "phase": "solve"})
        for line in lines:
            log.append(line)
            await asyncio.sleep(0)
        await log.end("COMPLETED")
        whole, later, _ = await asyncio.gather(*readers)
        expected = "".join(lines)
        assert text_of(whole) == expected
        assert text_of(later) == expected[4:]
        assert Happened({"event": "phase", "phase": "solve"}) in whole
        assert whole[-1] == Ended("COMPLETED")
        # Also whoever comes later, for a while.
        assert text_of(await followed(reader)) == expected
        async with Redis.from_url(server.url) as redis:
            assert 0 < await redis.ttl(f"condastore:{KEY}") <= 3600


async def test_what_is_there_so_far_is_read_while_more_comes(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server) as writer, opened(server) as reader:
        log = BuildLog(tmp_path / "a.log", 10**6, executor)
        writer.publish(KEY, log)
        log.append("first\n")

        async def go_on() -> None:
            for number in range(1_000_000):
                log.happened({"event": "progress", "done": number})
                await asyncio.sleep(0.001)

        going_on = asyncio.create_task(go_on())
        async with asyncio.timeout(PATIENCE_S):
            while not (found := text_of([p async for p in reader.so_far(KEY, 2)])):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert found == "rst\n"
        assert not going_on.done()
        going_on.cancel()
        await log.end("COMPLETED")


async def test_a_redis_that_restarts_empty_costs_nothing_but_time(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server) as writer, opened(server) as reader:
        log = BuildLog(tmp_path / "a.log", 10**6, executor)
        writer.publish(KEY, log)
        log.append("before\n")
        async with asyncio.timeout(PATIENCE_S), aclosing(reader.follow(KEY, 0)) as positions:
            async for position in positions:
                if isinstance(position, Text):
                    break
        server.kill()
        assert await followed(reader) == []
        assert "redis can't be used" in (await reader.problem() or "")
        log.append("meanwhile\n")
        await asyncio.sleep(0.1)
        server.start()
        log.append("after\n")
        await log.end("FAILED")
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await followed(reader, 3)
                if Ended("FAILED") in found:
                    break
        assert text_of(found) == "ore\nmeanwhile\nafter\n"
        assert await reader.problem() is None


async def test_a_stream_is_no_larger_than_allowed_and_says_what_it_lacks(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server, 100_000) as writer, opened(server) as reader:
        log = BuildLog(tmp_path / "a.log", 10**7, executor)
        writer.publish(KEY, log)
        for number in range(200):
            log.append(f"{number:04}" * 1000 + "\n")
            await log.drain()
            await asyncio.sleep(0.002)
        await log.end("COMPLETED")
        size = 200 * 4001
        async with asyncio.timeout(PATIENCE_S):
            while text_of(await followed(reader, size - 4001))[:4] != "0199":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        # It ends where it has a gap, and not with the end of the log.
        assert await followed(reader, 0) == []
        async with Redis.from_url(server.url) as redis:
            used = await redis.memory_usage(f"condastore:{KEY}")
            assert used is not None and used < 300_000


async def test_a_build_that_was_taken_over_is_read_from_its_new_start(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server) as dead, opened(server) as heir, opened(server) as reader:
        first = BuildLog(tmp_path / "first.log", 10**6, executor)
        dead.publish(KEY, first)
        first.append("half done\n")
        positions = reader.follow(KEY, 0)
        read: list[Position] = []
        async with asyncio.timeout(PATIENCE_S):
            while not text_of(read):
                read += [p for p in [await anext(positions)] if p is not None]
        second = BuildLog(tmp_path / "second.log", 10**6, executor)
        heir.publish(KEY, second)
        second.append("done\n")
        await second.end("COMPLETED")
        async with asyncio.timeout(PATIENCE_S):
            read += [position async for position in positions if position is not None]
        assert text_of(read) == "half done\ndone\n"
        await first.end("FAILED")


async def test_a_log_that_was_given_up_takes_nothing_from_the_one_that_goes_on(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server) as paused, opened(server) as heir, opened(server) as reader:
        first = BuildLog(tmp_path / "first.log", 10**6, executor)
        second = BuildLog(tmp_path / "second.log", 10**6, executor)
        heir.publish(KEY, second)
        second.append("done\n")
        await second.end("COMPLETED")
        assert text_of(await followed(reader)) == "done\n"
        await first.release()
        async with asyncio.timeout(PATIENCE_S):
            # As when Redis was away until now.
            await paused._publish(KEY, first)
        assert text_of([p async for p in reader.so_far(KEY, 0)]) == "done\n"


def test_a_url_that_is_none_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match=r"CondaStore\.redis_url"):
        RedisLogs("nonsense://x", 10)


async def test_f42_a_redis_that_can_not_be_used_at_the_start_is_told_and_no_reason_to_end(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    logs = RedisLogs(server.url.replace(server.password, "not-the-secret"), 10**6)
    running_ = asyncio.create_task(logs.run())
    async with asyncio.timeout(30):
        while "CondaStore.redis_url: redis can't be used" not in caplog.text:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert not running_.done() and "not-the-secret" not in caplog.text
    running_.cancel()
    await asyncio.wait([running_])
    await logs.close()


async def test_hundreds_follow_one_log_through_one_connection(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server) as writer, opened(server) as reader:
        log = BuildLog(tmp_path / "a.log", 10**6, executor)
        writer.publish(KEY, log)
        readers = [asyncio.create_task(followed(reader, offset % 3)) for offset in range(300)]
        for number in range(100):
            log.append(f"line {number}\n")
            await asyncio.sleep(0)
        async with Redis.from_url(server.url) as redis:
            assert len(await redis.client_list()) < 10
        await log.end("COMPLETED")
        expected = "".join(f"line {number}\n" for number in range(100))
        for number, found in enumerate(await asyncio.gather(*readers)):
            assert text_of(found) == expected[number % 3 :]


async def test_a_cancellation_is_never_lost(server: RedisServer) -> None:
    redis = client(server.url)
    await redis.ping()

    async def for_ever() -> None:
        while True:
            await redis.ping()

    for steps in range(100):
        asking = asyncio.create_task(for_ever())
        for _ in range(steps % 40):
            await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking], timeout=PATIENCE_S)
        assert asking.cancelled()
    await redis.aclose()


async def test_who_falls_behind_what_is_kept_ends_with_a_gap(
    server: RedisServer, tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    async with opened(server, 100_000) as writer, opened(server, 100_000) as reader:
        log = BuildLog(tmp_path / "a.log", 10**7, executor)
        writer.publish(KEY, log)
        log.append("first\n")
        async with (
            asyncio.timeout(60),
            aclosing(reader.follow(KEY, 0)) as slow,
            aclosing(reader.follow(KEY, 0)) as quick,
        ):
            while not isinstance(await anext(slow), Text):
                continue
            size, read = 6 + 100 * 4001, 0
            for number in range(100):
                log.append(f"{number:04}" * 1000 + "\n")
                await log.drain()
                while read < 6 + (number + 1) * 4001:
                    position = await anext(quick)
                    read = position.end if isinstance(position, Text) else read
            assert read == size
            rest = [position async for position in slow if position is not None]
            assert size not in [position.end for position in rest if isinstance(position, Text)]
        await log.end("COMPLETED")
