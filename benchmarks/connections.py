"""What ten thousand idle and slow connections cost, and what they do to everybody else."""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, running
from benchmarks.usage import cpu_seconds, resident_bytes
from condastore.http.listener import raise_file_limit

MB = 1e6
REQUESTS = 200
WATCHED_S = 2.0
# None of them is a whole request: nothing, half of a head, a head without its body.
BEGINNINGS = (
    b"",
    b"GET /api/v1/ HTTP/1.1\r\nHost: local",
    b"POST /api/v1/specification/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
)


def measure(scene: Scene) -> Table:
    """Asks a daemon that nobody else uses, and one with connections that only take room."""
    count = 1_000 if scene.quick else 10_000
    raise_file_limit()
    table = scene.table(f"{count:,} idle and slow connections", "the same daemon before they came")
    options = [f"--CondaStoreServer.{name}_timeout=600" for name in ("keep_alive", "read")]
    alone, beside = [], []
    with running(scene.fresh("data"), *options) as daemon:
        memory = resident_bytes(daemon.pid)
        for _ in range(scene.rounds):
            alone.append(_latencies(daemon))
            with _connections(daemon, count) as opened_s:
                beside.append(_latencies(daemon))
                taken = resident_bytes(daemon.pid) - memory
                busy = cpu_seconds(daemon.pid)
                time.sleep(WATCHED_S)
                busy = (cpu_seconds(daemon.pid) - busy) / WATCHED_S
            _until_alone(daemon)
    for percent in (50, 99):
        measured, baseline = ([_share(each, percent) for each in them] for them in (beside, alone))
        table.ratio(f"a request, percentile {percent}", measured, baseline)
    table.value("opening them", [opened_s], "s")
    table.value("memory that they take", [taken / MB], "MB")
    table.value("CPU that they take", [100 * busy], "%", 1)
    return table


@contextmanager
def _connections(daemon: Daemon, count: int) -> Iterator[float]:
    """Opens connections that send no whole request; gives the seconds that it took."""
    url = urlsplit(daemon.url)
    opened = []
    began = time.perf_counter()
    try:
        for number in range(count):
            connection = socket.create_connection((url.hostname, url.port or 80))
            connection.sendall(BEGINNINGS[number % len(BEGINNINGS)])
            opened.append(connection)
        # Whoever comes now is behind all of them.
        assert daemon.request("GET", "/").status_code == 200
        yield time.perf_counter() - began
    finally:
        for connection in opened:
            connection.close()


def _latencies(daemon: Daemon) -> Sequence[float]:
    """Returns sorted seconds a request, each on a connection of its own."""
    found = []
    for _ in range(REQUESTS):
        began = time.perf_counter()
        answer = daemon.request("GET", "/permission/", headers={"Connection": "close"})
        assert answer.status_code == 200
        found.append(time.perf_counter() - began)
    return sorted(found)


def _share(latencies: Sequence[float], percent: int) -> float:
    return latencies[len(latencies) * percent // 100]


def _until_alone(daemon: Daemon) -> None:
    """Waits until the daemon has noticed that they are gone."""
    busy = -1.0
    while busy != (busy := cpu_seconds(daemon.pid)):
        time.sleep(0.3)


if __name__ == "__main__":
    run(measure)
