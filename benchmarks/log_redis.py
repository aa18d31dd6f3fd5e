"""How soon 200 readers have each line of a log that another daemon writes, through Redis."""

import asyncio
import resource
import time
from concurrent.futures import ThreadPoolExecutor

from redis.asyncio import Redis

from benchmarks.measure import Table, percentile
from benchmarks.scene import Scene, run
from condastore.streams import BuildLog, Text
from condastore.streams.redis import RedisLogs
from devtools.servers import RedisServer, running

READERS = 200
LINES = 100_000
LINES_A_SECOND = 2_000
LINE = "{:>9} {:>16} action_fetch_and_extract_conda_packages: numpy 1.26.4 py311h64a7726_0\n"
CAP_BYTES = 4 * 1024**2
# Redis has its own needs for each entry.
REDIS_SHARE = 2.0
MIB = 1024**2
MS = 1e3


def measure(scene: Scene) -> Table:
    """Writes a log line by line, in which each says when it was written, and reads it 200 times."""
    table = scene.table("Logs through Redis", "named in each line")
    server = RedisServer(scene.fresh("redis"))
    lines = LINES // 20 if scene.quick else LINES
    with running(server):
        asyncio.run(_measure(scene, server, lines, table))
    return table


async def _measure(scene: Scene, server: RedisServer, lines: int, table: Table) -> None:
    writer, reader = RedisLogs(server.url, CAP_BYTES), RedisLogs(server.url, CAP_BYTES)
    publishing = asyncio.create_task(writer.run())
    async with Redis.from_url(server.url) as redis:
        before = (await redis.info("memory"))["used_memory_dataset"]
        late: list[float] = []
        with ThreadPoolExecutor(2) as executor:
            path = scene.fresh("log") / "build.log"
            log = BuildLog(path, 2 * lines * len(LINE.format(0, 0)), executor)
            writer.publish("bench", log)
            began = _cpu_s()
            async with asyncio.TaskGroup() as group:
                for _ in range(READERS):
                    group.create_task(_read(reader, lines, late))
                await _write(log, lines)
                await log.end("COMPLETED")
            used = _cpu_s() - began
        held = (await redis.info("memory"))["used_memory_dataset"] - before
    publishing.cancel()
    await asyncio.gather(publishing, return_exceptions=True)
    await writer.close()
    await reader.close()
    what = f"{READERS} readers of {lines:,} lines through Redis"
    table.value(f"{what}: lag, median", [percentile(late, 50)], "ms")
    table.value(f"{what}: lag, p99", [percentile(late, 99)], "ms", most=100)
    table.value(f"{what}: processor time of both daemons", [used], "s")
    most = REDIS_SHARE * CAP_BYTES / MIB
    table.value("what Redis holds of a log capped at 4 MiB", [held / MIB], "MiB", most=most)


async def _write(log: BuildLog, lines: int) -> None:
    """Writes at the rate of a build that talks much, as its reporter does."""
    began = time.monotonic()
    for number in range(lines):
        ahead = number / LINES_A_SECOND - (time.monotonic() - began)
        if ahead > 0:
            await asyncio.sleep(ahead)
        log.append(LINE.format(number, time.monotonic_ns()))
        await log.drain()


async def _read(logs: RedisLogs, lines: int, late: list[float]) -> None:
    """Follows the log to its end, and checks that no line is missing or comes twice."""
    rest, expected = b"", 0
    async for position in logs.follow("bench", 0):
        if not isinstance(position, Text):
            continue
        now_ns = time.monotonic_ns()
        whole, _, rest = (rest + position.data).rpartition(b"\n")
        if whole:
            # The oldest line of a piece is the one that comes latest.
            number, wrote_ns = whole.split(None, 2)[:2]
            assert int(number) == expected
            expected += whole.count(b"\n") + 1
            late.append((now_ns - int(wrote_ns)) / 1e9 * MS)
    assert expected == lines, "a reader fell behind what Redis holds"


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    run(measure)
