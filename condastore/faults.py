"""Named fault points: places where the crash tests make the daemon die or fail.

`CONDASTORE_FAULT=point:N:action` arms one point, or all that a pattern such as `build.*` names:
their Nth passing does the action, and with `*` for N each. Actions are `kill` (SIGKILL to this
process), `kill:TERM` (another signal; `STOP` holds it there until somebody sends `CONT`),
`raise:ENOSPC` (an OSError of that name) and `sleep:SECONDS`. Before it acts, it says so on the
standard error. Unset, a point costs one look at a global.
"""

import errno
import fnmatch
import os
import signal
import time

VARIABLE = "CONDASTORE_FAULT"
STRUCK = "fault point: "


class _Armed:
    def __init__(self, text: str) -> None:
        self.pattern, self.passing, self.action, *argument = text.split(":")
        self.passed = 0
        self.argument = argument[0] if argument else ""

    def pass_by(self, point: str) -> None:
        if not fnmatch.fnmatchcase(point, self.pattern):
            return
        self.passed += 1
        if self.passing in ("*", str(self.passed)):
            self._strike(point)

    def _strike(self, point: str) -> None:
        action = ":".join(filter(None, (self.action, self.argument)))
        os.write(2, f"{STRUCK}{point}:{self.passing}:{action}\n".encode())
        if self.action == "kill":
            os.kill(os.getpid(), signal.Signals[f"SIG{self.argument or 'KILL'}"])
        elif self.action == "raise":
            number: int = getattr(errno, self.argument)
            raise OSError(number, os.strerror(number))
        elif self.action == "sleep":
            time.sleep(float(self.argument))
        else:
            raise ValueError(f"{VARIABLE}: unknown action {self.action!r}")


_armed = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def fault(point: str) -> None:
    """Does nothing, unless a test armed this point."""
    if _armed is not None:
        _armed.pass_by(point)
