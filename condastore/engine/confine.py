"""What a child does to itself before it does anything else: it may not outlive or outgrow."""

import ctypes
import os
import resource
import signal
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8
_LEAST_ADDRESS_SPACE = 4 << 30
_NICENESS = {
    "build": 10,
    "archive": 15,
    "installer": 15,
    "image": 10,
    "remove": 15,
    "sweep": 15,
    "verify": 15,
    "index": 15,
}


def die_with_parent(parent: int | None) -> None:
    """Asks the kernel to kill this process when the one that started it dies."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the request above: then no signal will ever come.
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def limit(role: str, memory_bytes: int | None) -> None:
    """Sets niceness, no core dumps and the address space; `None` leaves the last as it is."""
    niceness = os.nice(_NICENESS.get(role, 0))
    # A session may be a scheduling group of its own, and niceness counts only within one: without
    # this, four builds would keep the daemon waiting for a core. It is for the whole session.
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is None:
        return
    # glibc reserves 64 MB of address space for an arena of each thread, which says nothing about
    # memory that is really used and would eat the limit on a machine with many cores.
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 4)
    address_space = max(memory_bytes, _LEAST_ADDRESS_SPACE)
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
