"""Two hundred people who watch the log of one build: what they cost, and whether anybody waits."""

import asyncio
from dataclasses import dataclass, field

from benchmarks.loop_lag import loop_lag, watched
from benchmarks.measure import Table, percentile
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon
from benchmarks.tails import read
from benchmarks.ticking_engine import latencies, substitute
from benchmarks.usage import cpu_seconds, resident_bytes

TAILS = 200
MEMORY_MB = 100
LAG_S = 0.100
LAG_MS = 1e3 * LAG_S
SAMPLE_S = 0.05


@dataclass
class Watched:
    """What the readers of one build saw."""

    texts: list[str] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    peak: int = 0


def measure(scene: Scene) -> Table:
    """Opens the tails before the build begins, and reads all of them to their end."""
    table = scene.table(f"{TAILS} open tails of one log", "none")
    memory, lags, busy, late, cpu = [], [], [], [], []
    for _ in range(scene.rounds):
        with watched(scene, **substitute(scene.fresh("engine"))) as daemon:
            # What the first build and the first reader load is no part of it.
            asyncio.run(_watch(daemon, scene, "services", 1))
            before, used = resident_bytes(daemon.pid), cpu_seconds(daemon.pid)
            loop_lag(daemon)
            seen = asyncio.run(_watch(daemon, scene, "science", TAILS))
            lag, worked = loop_lag(daemon)
            cpu.append(cpu_seconds(daemon.pid) - used)
        assert len(set(seen.texts)) == 1, "somebody missed a line"
        memory.append((seen.peak - before) / 1e6)
        lags.append(lag)
        busy.append(worked)
        late += seen.late_ms
    table.value("memory that they take, at most", memory, "MB", MEMORY_MB)
    table.value("the event loop is late, at most", lags, "s", LAG_S)
    table.value("of which it worked", busy, "s", LAG_S)
    table.value("CPU of the daemon, the build included", cpu, "s")
    table.value(f"a line from the child to a reader, {len(late)} lines, median", late, "ms")
    table.value("the same, 99th percentile", [percentile(late, 99)], "ms", LAG_MS)
    return table


async def _watch(daemon: Daemon, scene: Scene, part: str, tails: int) -> Watched:
    """Watches a build of a part by so many at once."""
    build_id = daemon.submit(scene.part(part))
    url = daemon.url.replace("http://", "ws://")
    address = f"{url}/api/v1/build/{build_id}/logs/ws?offset=0"
    seen = Watched()
    async with asyncio.TaskGroup() as group:
        sampling = group.create_task(_sample(daemon, seen))
        async with asyncio.TaskGroup() as readers:
            for _ in range(tails):
                readers.create_task(_read(address, seen))
        sampling.cancel()
    daemon.completed(build_id)
    return seen


async def _sample(daemon: Daemon, seen: Watched) -> None:
    while True:
        seen.peak = max(seen.peak, resident_bytes(daemon.pid))
        await asyncio.sleep(SAMPLE_S)


async def _read(address: str, seen: Watched) -> None:
    arrivals = await read(address)
    seen.texts.append("".join(text for _, text in arrivals))
    # What a reader finds there when he comes is not late, but he is.
    seen.late_ms += latencies(arrivals[1:])


if __name__ == "__main__":
    run(measure)
