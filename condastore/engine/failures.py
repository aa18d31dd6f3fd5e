"""Turns whatever went wrong into a kind and a text that the user of the job can read."""

import errno
import re
import resource

from condastore.engine.events import EngineError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_TEXT_LIMIT = 4000
# What programs say of it: Python, C++, and the C library.
OUT_OF_MEMORY = r"MemoryError|bad_alloc|[Cc]annot allocate memory"


def explain(error: BaseException) -> EngineError:
    """The reason for a failure; an unforeseen one is `internal` and gives its type."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    if isinstance(error, MemoryError):
        return EngineError("memory", f"The build ran out of memory: {_memory(_peak_bytes())}.")
    if os_error_number(error) in _DISK_ERRORS:
        return EngineError("disk", f"There is no space left on the disk: {error}")
    return EngineError("internal", f"{type(error).__name__}: {error}"[:_TEXT_LIMIT])


def out_of_memory(said: str) -> str:
    """What to add to the last words of a program that we ran: nothing unless it wanted memory."""
    if not re.search(OUT_OF_MEMORY, said):
        return ""
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return f"\nIt ran out of memory: {_memory(used)}."


def _memory(used_bytes: int) -> str:
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    used = f"used {used_bytes / 1e9:.1f} GB"
    if limit_bytes == resource.RLIM_INFINITY:
        return used
    return f"limit {limit_bytes / 1e9:.1f} GB (CondaStore.max_build_memory), {used}"


def _peak_bytes() -> int:
    """The most that this process has had: of address space if that is limited, else in memory."""
    limit_bytes, _ = resource.getrlimit(resource.RLIMIT_AS)
    name = "VmHWM:" if limit_bytes == resource.RLIM_INFINITY else "VmPeak:"
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def os_error_number(error: BaseException) -> int | None:
    """The errno of a Python exception, or the one that Rust put into its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def not_here(what: str) -> EngineError:
    """That `what` would have to be fetched, which must not be."""
    return EngineError(
        "network",
        f"Not on this machine: {what}. Nothing is fetched, because c.CondaStore.offline is set.",
    )
