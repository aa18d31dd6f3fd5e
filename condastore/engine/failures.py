"""Turns whatever went wrong into a kind and a text that the user of the job can read."""

import errno
import re

from condastore.engine.events import EngineError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_TEXT_LIMIT = 4000


def explain(error: BaseException) -> EngineError:
    """The reason for a failure; an unforeseen one is `internal` and gives its type."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, BaseExceptionGroup):
        return explain(error.exceptions[0])
    if isinstance(error, MemoryError):
        return EngineError("memory", "The build ran out of memory.")
    if os_error_number(error) in _DISK_ERRORS:
        return EngineError("disk", f"There is no space left on the disk: {error}")
    return EngineError("internal", f"{type(error).__name__}: {error}"[:_TEXT_LIMIT])


def os_error_number(error: BaseException) -> int | None:
    """The errno of a Python exception, or the one that Rust put into its text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None
