"""A real daemon, timed from outside."""

import os
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import seconds
from benchmarks.scene import Specification
from tests.acceptance.harness import Daemon, running

__all__ = ["Daemon", "build_seconds", "cpu_seconds", "lock", "resident_bytes", "running"]

POLL_S = 0.002
STATUS_POLL_S = 1.0
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of the kernel's clock ids


def build_seconds(daemon: Daemon, specification: Specification, **fields: Any) -> float:
    """Returns the time from the POST until the environment's link leads to the new build."""
    link = daemon.link(fields.get("environment_name") or specification["name"])
    before = _target(link)
    build_ids = []

    def build() -> None:
        build_ids.append(daemon.submit(specification, **fields))
        checked = time.monotonic()
        while _target(link) == before:
            time.sleep(POLL_S)
            if time.monotonic() - checked > STATUS_POLL_S:
                checked = time.monotonic()
                status = daemon.build(build_ids[0])["status"]
                assert status not in ("FAILED", "CANCELED"), daemon.log(build_ids[0])

    taken = seconds(build)
    daemon.completed(build_ids[0])
    return taken


def lock(daemon: Daemon, name: str) -> tuple[str, dict[str, Any]]:
    """Returns an environment's lockfile, and the fields to post it with."""
    response = daemon.request("GET", f"/environment/default/{name}/lockfile/")
    return response.text, {"is_lockfile": True, "environment_name": f"{name}-locked"}


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a living process has used, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def _target(link: Path) -> str | None:
    return os.readlink(link) if link.is_symlink() else None
