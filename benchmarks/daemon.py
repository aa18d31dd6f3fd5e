"""What the daemon takes to start, and what it costs while it has nothing to do."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import httpx

from benchmarks.measure import Table, seconds
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, build_seconds, running
from benchmarks.usage import cpu_seconds, resident_bytes, wake_ups

MB = 1e6
POLL_S = 0.002
# What is due at the end of a build gets this long.
SETTLE_S = 3.0


def measure(scene: Scene) -> Table:
    """Starts daemons on new and on used directories, and watches one that is idle."""
    table = scene.table("The daemon itself", "a Python that only imports the daemon's modules")
    imports = [sys.executable, "-c", "import condastore.daemon"]
    first, again, baseline = [], [], []
    for _ in range(max(scene.rounds, 3)):
        data = scene.fresh("data")
        first.append(_start_seconds(data))
        again.append(_start_seconds(data))
        baseline.append(seconds(partial(subprocess.run, imports, check=True)))
    table.ratio("start on a new directory, to the first 200", first, baseline)
    table.ratio("start on a used directory, to the first 200", again, baseline)
    table.value("start on a new directory", first, "s", most=1)
    with running(scene.fresh("data")) as daemon:
        table.value("resident memory after the start", [resident_bytes(daemon.pid) / MB], "MB", 110)
        for _ in range(2):
            build_seconds(daemon, scene.reference)
        time.sleep(SETTLE_S)
        resident = resident_bytes(daemon.pid) / MB
        table.value("resident memory after two builds", [resident], "MB", 110)
        _watch_idle(table, daemon, 5.0 if scene.quick else 20.0)
    return table


def _start_seconds(data: Path) -> float:
    daemon = Daemon(data)
    taken = seconds(lambda: _first_answer(daemon))
    daemon.stop()
    daemon.client.close()
    return taken


def _first_answer(daemon: Daemon) -> None:
    daemon.start()
    while True:
        try:
            if daemon.request("GET", "/").status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(POLL_S)


def _watch_idle(table: Table, daemon: Daemon, period_s: float) -> None:
    cpu, switches = cpu_seconds(daemon.pid), wake_ups(daemon.pid)
    time.sleep(period_s)
    used = cpu_seconds(daemon.pid) - cpu
    table.value(f"CPU while idle, over {period_s:g} s", [100 * used / period_s], "%", most=0.1)
    woken = (wake_ups(daemon.pid) - switches) / period_s
    table.value("times that it wakes up in a second", [woken], "")


if __name__ == "__main__":
    run(measure)
