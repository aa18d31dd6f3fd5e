"""Named fault points: places where the crash tests make the daemon die or fail.

`CONDASTORE_FAULT=point:N:action` arms one point, or all that a pattern such as `build.*` names:
their Nth passing does the action, and with `*` for N each. Actions are `kill` (SIGKILL to this
process), `kill:TERM` (another signal; `STOP` holds it there until somebody sends `CONT`),
`raise:ENOSPC` (an OSError of that name) and `sleep:SECONDS`. Before it acts, it says so on the
standard error. Unset, a point costs one look at a global.

The points `engine.*` are in children of the daemon. There `kill` ends the daemon and the child, at
that point of the child's; another signal is the daemon's alone; and `die` ends the child alone.
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
        _say(f"{STRUCK}{point}:{self.passing}:{action}\n")
        if self.action == "kill":
            _kill(signal.Signals[f"SIG{self.argument or 'KILL'}"])
        elif self.action == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "raise":
            number: int = getattr(errno, self.argument)
            raise OSError(number, os.strerror(number))
        elif self.action == "sleep":
            time.sleep(float(self.argument))
        else:
            raise ValueError(f"{VARIABLE}: unknown action {self.action!r}")


def _kill(number: signal.Signals) -> None:
    if _daemon is not None:
        os.kill(_daemon, number)
    if _daemon is None or number == signal.SIGKILL:
        os.kill(os.getpid(), number)


def _say(text: str) -> None:
    if _daemon is None:
        os.write(2, text.encode())
        return
    # What a child says there is a part of the build's log.
    with open(f"/proc/{_daemon}/fd/2", "a") as output:
        output.write(text)


_daemon: int | None = None
_armed = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def fault(point: str) -> None:
    """Does nothing, unless a test armed this point."""
    if _armed is not None:
        _armed.pass_by(point)


def be_child_of(daemon: int | None) -> None:
    """Says whose child this process is: its points strike the daemon as well."""
    global _daemon
    _daemon = daemon
