"""The engine as it is, but its builds also log the time, every few milliseconds.

A line says when it is written, and how long the writing of the line before it took: a child that
loses its core in between says nothing of the daemon.

The daemon starts this in place of its own engine when `substitute` was put on its path.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from condastore.engine import __main__ as engine
from condastore.engine.events import Events, Phase

TICK = "tick "
INTERVAL_S = 0.01
AT_ONCE_NS = 1e6
NS_IN_MS = 1e6
REPOSITORY = Path(__file__).parent.parent

Arrival = tuple[int, str]
"""A piece of a log, and when it came, in nanoseconds of the monotonic clock."""


class TickingEvents(Events):
    """Logs the time while a build is at work."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def phase(self, phase: Phase) -> None:
        """Starts the ticks with the first phase of a build."""
        super().phase(phase)
        if phase == "fetch":
            self._ticker.start()

    def result(self, **fields: Any) -> None:
        """Ends the ticks."""
        self._stop.set()
        super().result(**fields)

    def _tick(self) -> None:
        wrote_ns = 0
        while not self._stop.wait(INTERVAL_S):
            now_ns = time.monotonic_ns()
            self.log(f"{TICK}{now_ns} {wrote_ns}")
            wrote_ns = time.monotonic_ns() - now_ns


def substitute(directory: Path) -> dict[str, str]:
    """Returns the environment of a daemon whose engine processes tick."""
    wrapper = directory / "python"
    wrapper.write_text(
        "#!/bin/sh\n"
        f'PYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m benchmarks.ticking_engine "$@"\n'
    )
    wrapper.chmod(0o755)
    # Python imports this module at its start; the daemon starts engines with sys.executable.
    customize = f"import sys\nsys.executable = {os.fspath(wrapper)!r}\n"
    (directory / "sitecustomize.py").write_text(customize)
    return {"PYTHONPATH": os.fspath(directory)}


def latencies(arrivals: Iterable[Arrival]) -> list[float]:
    """Returns the milliseconds that the lines took which their child wrote at once."""
    late_ns, wrote_ns = [], []
    for now_ns, text in arrivals:
        for line in text.splitlines():
            if line.startswith(TICK):
                then, wrote_before = line.removeprefix(TICK).split()
                late_ns.append(now_ns - int(then))
                wrote_ns.append(int(wrote_before))
    pairs = zip(late_ns, wrote_ns[1:], strict=False)
    return [late / NS_IN_MS for late, wrote in pairs if wrote < AT_ONCE_NS]


if __name__ == "__main__":
    setattr(engine, "Events", TickingEvents)  # noqa: B010 - a name is no place to assign to
    del sys.argv[1:4]  # -I -m condastore.engine
    os._exit(engine.main())
