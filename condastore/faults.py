"""Named fault points: places where the crash tests make the daemon die or fail.

`CONDASTORE_FAULT=point:N:action` arms one point: its Nth passing does the action. Actions are
`kill` (SIGKILL to this process), `kill:TERM` (another signal), `raise:ENOSPC` (an OSError of that
name) and `sleep:SECONDS`. Before it acts, it says so on the standard error. Unset, a point costs
one look at a global.
"""

import errno
import os
import signal
import time

VARIABLE = "CONDASTORE_FAULT"
STRUCK = "fault point: "


class _Armed:
    def __init__(self, text: str) -> None:
        self.text = text
        self.point, passing, self.action, *argument = text.split(":")
        self.passings_left = int(passing)
        self.argument = argument[0] if argument else ""

    def strike(self) -> None:
        os.write(2, f"{STRUCK}{self.text}\n".encode())
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
    if _armed is None or _armed.point != point:
        return
    _armed.passings_left -= 1
    if _armed.passings_left == 0:
        _armed.strike()
