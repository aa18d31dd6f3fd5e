"""The package index of a channel of conda-forge's size: what making it takes, and searching it."""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.measure import Table, percentile
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, running
from benchmarks.usage import family_cpu_seconds, peak_bytes, resident_bytes
from devtools.localchannel.interpreter import SUBDIR
from devtools.localchannel.server import ChannelServer, serve

MB = 1e6
MS = 1e3
RECORDS, NAMES = 1_000_000, 30_000
QUICK_RECORDS, QUICK_NAMES = 50_000, 2_000
DOCUMENTS = 3
INDEXED_S = 600.0
POLL_S = 0.02
SEARCHES = 300
MEANWHILE_MS = 50
BASELINES = """of CPU, json.load of the same two files, unpacked; of times, GET /api/v1/ in the
same run, for the longest one in as long a time without indexing"""
LOAD = """
import json, sys, time
began = time.process_time()
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        json.load(file)
print(time.process_time() - began)
"""
QUERIES = {
    "names with a text that few have": "search=numpy&page=1&size=100&distinct_on=name",
    "names with a text that most have": "search=ar&page=1&size=100&distinct_on=name",
    "the same, far behind": "search=ar&page=150&size=100&distinct_on=name",
    "versions of a name": "search=numpy&exact=true&distinct_on=version&order=desc&sort_by=version",
    "packages with a text that most have": "search=ar",
    "a text that none has": "search=nothing-of-this-kind&distinct_on=name",
}


def measure(scene: Scene) -> Table:
    """Indexes a channel over HTTP, looks at it again, and searches."""
    table = scene.table("The package index", BASELINES)
    size = (QUICK_RECORDS, QUICK_NAMES) if scene.quick else (RECORDS, NAMES)
    channel = scene.channel_of("synthetic", *size)
    table.note(f"The channel has {size[0]:,} records and {size[1]:,} names.")
    cpu, baseline = [], []
    for round_ in range(min(scene.rounds, 3)):
        baseline.append(_load_seconds(channel))
        data = scene.fresh("data")
        with serve(channel) as server:
            is_last = round_ + 1 == min(scene.rounds, 3)
            cpu.append(_index(table, data, server, channel, is_last=is_last))
    table.ratio("CPU of the child", cpu, baseline, most=4)
    table.value("the same", cpu, "s", most=60)
    return table


def _load_seconds(channel: Path) -> float:
    paths = [channel / subdir / "repodata.json" for subdir in (SUBDIR, "noarch")]
    command = [sys.executable, "-c", LOAD, *map(str, paths)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _index(
    table: Table, data: Path, server: ChannelServer, channel: Path, *, is_last: bool
) -> float:
    """Returns the CPU seconds of the child; the last round shows everything else."""
    with running(data, *_options(data)) as daemon:
        # The children of the start are another subject.
        time.sleep(1)
        resident = resident_bytes(daemon.pid)
        before = family_cpu_seconds(daemon.pid)
        _set(daemon, [server.url])
        with _watched(daemon) as (peaks, waits):
            began = time.perf_counter()
            while _records(daemon) == 0:
                assert time.perf_counter() < began + INDEXED_S, daemon.output.read_text()
                time.sleep(0.5)
            taken = time.perf_counter() - began
        cpu = family_cpu_seconds(daemon.pid) - before
        if is_last:
            table.value("time until it can be searched", [taken], "s")
            table.value("peak memory of the child", [max(peaks) / MB], "MB", most=600)
            with _watched(daemon) as (_, idle):
                time.sleep(taken)
            longest = [max(waits)], [max(idle)]
            table.excess("longest wait for GET /api/v1/ meanwhile", *longest, unit="ms")
            table.value("the same", longest[0], "ms", most=50)
            _search(table, daemon)
            _search_meanwhile(table, daemon, server, channel)
            growth = resident_bytes(daemon.pid) - resident
            table.value("memory that the daemon has grown by", [growth / MB], "MB", most=20)
            file = data / "index" / "packages.sqlite"
            table.value("size of the index", [file.stat().st_size / MB], "MB")
    if is_last:
        _look_again(table, data, server)
    return cpu


def _look_again(table: Table, data: Path, server: ChannelServer) -> None:
    server.requests.clear()
    with running(data, *_options(data)) as daemon:
        before = family_cpu_seconds(daemon.pid)
        while sum(server.requests.values()) < DOCUMENTS:
            time.sleep(POLL_S)
        time.sleep(1)
        cpu = family_cpu_seconds(daemon.pid) - before
    requests = sum(server.requests.values())
    table.value("requests for the unchanged channel", [requests], "", most=DOCUMENTS)
    table.value("CPU of that child and the start's other", [cpu], "s")


def _search(table: Table, daemon: Daemon) -> None:
    with httpx.Client(timeout=30) as client:
        for what, query in QUERIES.items():
            waits, others = [], []
            for _ in range(SEARCHES):
                waits.append(_answer_ms(client, f"{daemon.url}/api/v1/package/?{query}"))
                others.append(_answer_ms(client, f"{daemon.url}/api/v1/"))
            middles = [statistics.median(waits)], [statistics.median(others)]
            table.excess(f"search: {what}, median", *middles, unit="ms")
            slowest = [percentile(waits, 99)], [percentile(others, 99)]
            table.excess(f"search: {what}, 99th percentile", *slowest, unit="ms")
            table.value("the same", slowest[0], "ms", most=20)


def _search_meanwhile(table: Table, daemon: Daemon, server: ChannelServer, channel: Path) -> None:
    """Indexes the channel once more, as another one, and searches until that is done."""
    before = _records(daemon)
    waits = []
    with serve(channel) as other, httpx.Client(timeout=30) as client:
        _set(daemon, [server.url, other.url])
        began = time.perf_counter()
        while _records(daemon) == before:
            assert time.perf_counter() < began + INDEXED_S, daemon.output.read_text()
            for query in QUERIES.values():
                waits.append(_answer_ms(client, f"{daemon.url}/api/v1/package/?{query}"))
                time.sleep(POLL_S)
        table.value("searches while a second channel is indexed, median", waits, "ms")
        slowest = percentile(waits, 99)
        table.value("the same, 99th percentile", [slowest], "ms", most=MEANWHILE_MS)
        _set(daemon, [server.url])


def _answer_ms(client: httpx.Client, url: str) -> float:
    began = time.perf_counter()
    client.get(url).raise_for_status()
    return (time.perf_counter() - began) * MS


def _options(data: Path) -> list[str]:
    config = data / "config.py"
    config.write_text("c.CondaStore.conda_indexed_channels = []\n")
    return [f"--config={config}", "--CondaStoreWorker.index_interval=900"]


def _set(daemon: Daemon, channels: list[str]) -> None:
    daemon.request("PUT", "/setting/", json={"conda_indexed_channels": channels}).raise_for_status()


def _records(daemon: Daemon) -> int:
    found: int = daemon.request("GET", "/package/?size=1").json()["count"]
    return found


@contextmanager
def _watched(daemon: Daemon) -> Iterator[tuple[list[int], list[float]]]:
    """Samples the peaks of processes, and how long an answer takes that needs only the loop."""
    peaks: list[int] = []
    waits: list[float] = []
    done = threading.Event()

    def watch() -> None:
        with httpx.Client(timeout=30) as client:
            while not done.is_set():
                waits.append(_answer_ms(client, f"{daemon.url}/api/v1/"))
                peaks.append(peak_bytes(daemon.pid))
                time.sleep(POLL_S)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks, waits
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    run(measure)
