"""How soon a line of a build's log is where somebody reads it."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path

from websockets.sync.client import ClientConnection

from benchmarks.bare import Hand
from benchmarks.measure import Table, percentile
from benchmarks.scene import Scene, Specification, run
from benchmarks.served import Daemon, Lock, build_seconds, running
from benchmarks.ticking_engine import latencies, substitute
from benchmarks.usage import two_cores
from condastore.streams import BuildLog

MS = 1e3
FOUR = "--CondaStoreWorker.concurrency=4"
FROM_CHILD = "action_"
LINES = 1_000_000
BLOCK_LINES = 1000
COMPARED_BLOCKS = 50
LINE = "action_fetch_and_extract_conda_packages: numpy 1.26.4 py311h64a7726_0\n"


def measure(scene: Scene) -> Table:
    """Times first bytes, then every line of four builds, then a log that gets long."""
    table = scene.table("Live log", "named in each line")
    with two_cores():
        _first_bytes(scene, table)
        _lines(scene, table)
        _appending(scene, table)
    return table


def _first_bytes(scene: Scene, table: Table) -> None:
    any_text, from_child, by_hand = [], [], []
    specification = scene.part("science")
    data = scene.fresh("data")
    with running(data) as daemon:
        build_seconds(daemon, specification)
        lock = Lock.of(daemon, "science")
        hand = Hand(data)
        for _ in range(max(scene.rounds, 3)):
            any_text.append(_seconds_to(daemon, "", lock) * MS)
            from_child.append(_seconds_to(daemon, FROM_CHILD, lock) * MS)
            by_hand.append(_child_seconds(hand, specification) * MS)
        hand.close()
    name = "POST to {} on a websocket / a bare child's first line"
    table.excess(name.format("first byte"), any_text, by_hand, most=100, unit="ms")
    table.excess(name.format("the child's first line"), from_child, by_hand, unit="ms")


def _seconds_to(daemon: Daemon, wanted: str, lock: Lock) -> float:
    """Returns the time from a POST of a lockfile to the first text with `wanted` in it."""
    began = time.perf_counter()
    build_id = lock.submit(daemon)
    with daemon.socket(build_id) as socket:
        next(chunk for chunk in _texts(socket) if wanted in chunk)
        taken = time.perf_counter() - began
    daemon.completed(build_id)
    return taken


def _child_seconds(hand: Hand, specification: Specification) -> float:
    """Returns the time from the start of a build's process to its first line."""
    solution = hand.solve(specification)
    began = time.perf_counter()
    lines = []
    hand.install(
        specification,
        solution,
        lambda event: lines.append(time.perf_counter()) if event["t"] == "log" else None,
    )
    return lines[0] - began


def _lines(scene: Scene, table: Table) -> None:
    """Compares the way of a line while four cold builds run with its way while one does."""
    environment = substitute(scene.fresh("engine"))
    alone, busy = list[float](), list[float]()
    for _ in range(min(scene.rounds, 2)):
        with running(scene.fresh("data"), FOUR, **environment) as daemon:
            alone += _latencies(daemon, scene.parts[:1])
        with running(scene.fresh("data"), FOUR, **environment) as daemon:
            busy += _latencies(daemon, scene.parts)
    what = f"line of a child to websocket frame, {len(busy)} lines of four builds / of one"
    for name, percent, most in (("median", 50, None), ("p99", 99, 50.0)):
        samples = [percentile(busy, percent)], [percentile(alone, percent)]
        table.ratio(f"{what}, {name}", *samples, unit="ms")
        table.value(f"the same, {name}", samples[0], "ms", most)
    table.value("the same, the slowest", [max(busy)], "ms")


def _latencies(daemon: Daemon, specifications: list[Specification]) -> list[float]:
    build_ids = [daemon.submit(specification) for specification in specifications]
    with ThreadPoolExecutor(len(build_ids)) as readers:
        found: list[Future[list[float]]] = [
            readers.submit(_read_ticks, daemon, build_id) for build_id in build_ids
        ]
    for build_id in build_ids:
        daemon.completed(build_id)
    return [latency for future in found for latency in future.result()]


def _read_ticks(daemon: Daemon, build_id: int) -> list[float]:
    """Returns the milliseconds that the lines took which their child wrote at once."""
    with daemon.socket(build_id) as socket:
        return latencies((time.monotonic_ns(), text) for text in _texts(socket))


def _texts(socket: ClientConnection) -> Iterator[str]:
    for message in socket:
        frame = json.loads(message)
        if "text" in frame:
            yield frame["text"]


def _appending(scene: Scene, table: Table) -> None:
    lines = LINES // 10 if scene.quick else LINES
    first, last = [], []
    for _ in range(min(scene.rounds, 3)):
        with ThreadPoolExecutor(2) as executor:
            path = scene.fresh("log") / "build.log"
            blocks = asyncio.run(_append(path, executor, lines // BLOCK_LINES))
        first.append(statistics.median(blocks[:COMPARED_BLOCKS]))
        last.append(statistics.median(blocks[-COMPARED_BLOCKS:]))
    name = f"appending a line, after {lines:,} lines / at the first"
    table.ratio(name, last, first, most=1.2, unit="us")


async def _append(path: Path, executor: Executor, blocks: int) -> list[float]:
    """Appends as a build's reporter does; returns the microseconds of a line, by block."""
    log = BuildLog(path, 2 * blocks * BLOCK_LINES * len(LINE), executor)
    taken = []
    for _ in range(blocks):
        began = time.perf_counter()
        for _ in range(BLOCK_LINES):
            log.append(LINE)
            await log.drain()
            await asyncio.sleep(0)
        taken.append((time.perf_counter() - began) / BLOCK_LINES * 1e6)
    await log.end("")
    return taken


if __name__ == "__main__":
    run(measure)
