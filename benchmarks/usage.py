"""What processes and cores have used, by the kernel's own accounts."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# User and system time in /proc/PID/stat, from field 4 on, and idle time and waits for disks in a
# line of /proc/stat, after its name (proc(5)).
_OWN_TIME = slice(10, 12)
_CHILDREN_TIME = slice(12, 14)
_IDLE_TIME = slice(3, 5)
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of the kernel's clock ids


def cpu_seconds(pid: int) -> float:
    """Returns the CPU time that a living process has used, to the nanosecond."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def family_cpu_seconds(pid: int) -> float:
    """Returns the CPU time of a process's children, those that have ended included."""
    ticks = sum(_stat(pid)[_CHILDREN_TIME])
    for child in _children(pid):
        ticks += sum(_stat(child)[_OWN_TIME]) + sum(_stat(child)[_CHILDREN_TIME])
    return ticks / os.sysconf("SC_CLK_TCK")


def idle_seconds() -> float:
    """Returns how long the cores of this process had nothing to do, waits for disks included."""
    cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name in cores:
            ticks += sum(map(int, fields[_IDLE_TIME]))
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pid: int) -> int:
    """Returns the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(pid: int) -> int:
    """Returns the peak of the largest of a process and its children; 0 if they are gone."""
    return max(_peak_bytes(process) for process in (pid, *_children(pid)))


def wake_ups(pid: int) -> int:
    """Returns how often a process has waited and been woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        total += int(fields["voluntary_ctxt_switches"])
    return total


@contextmanager
def two_cores() -> Iterator[None]:
    """Keeps this process, and all that it starts, to two cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:2])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _peak_bytes(pid: int) -> int:
    # What wait4(2) tells would include the peak of this process, from before the child's exec.
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _stat(pid: int) -> list[int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return [int(field) for field in fields[1:]]


def _children(pid: int) -> list[int]:
    try:
        lists = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [int(child) for text in lists for child in text.split()]
