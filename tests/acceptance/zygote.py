"""Daemons without the seconds that an interpreter and its imports take.

A zygote is a process that has imported the daemon, and whose children each become one. From there
on, such a daemon is what `python -m condastore serve` is.
"""

import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import reload
from typing import BinaryIO, Self

from condastore import faults

# What of the environment counts only after the imports.
_LATE = {faults.VARIABLE, "PYTEST_CURRENT_TEST", "CONDASTORE_TEST_DATABASE_SERVER"}
_MESSAGE_BYTES = 128 * 1024


class Forked:
    """A child of the zygote, with what tests use of `subprocess.Popen`."""

    def __init__(self, zygote: "Zygote", pid: int) -> None:
        self._zygote = zygote
        self.pid = pid
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Returns the exit status, or None while it lives."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Returns the exit status. Raises `subprocess.TimeoutExpired`."""
        status = self._look(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self.poll() is None:
            signal.pidfd_send_signal(self._ended, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _look(self, timeout_s: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout_s)[0]:
            self.returncode = self._zygote.status(self.pid)
            os.close(self._ended)
        return self.returncode


class Zygote:
    """The process that daemons are forked from; it ends with this one."""

    def __init__(self) -> None:
        self._env = dict(os.environ)
        self._asking = threading.Lock()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())], pass_fds=[theirs.fileno()]
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()
        self._process.wait()

    def suits(self, env: Mapping[str, str]) -> bool:
        """Whether a daemon with this environment may be forked: others may want another clock."""
        return not {name for name, _ in env.items() ^ self._env.items()} - _LATE

    def fork(self, arguments: Sequence[str], output: BinaryIO, env: Mapping[str, str]) -> Forked:
        """Starts `condastore` with these arguments."""
        asked = {"arguments": arguments, "env": dict(env), "directory": os.getcwd()}
        return Forked(self, self._answer(asked, output.fileno()))

    def status(self, pid: int) -> int:
        """Returns the exit status of a child that has ended."""
        return self._answer({"ended": pid})

    def _answer(self, asked: Mapping[str, object], *descriptors: int) -> int:
        with self._asking:
            socket.send_fds(self._control, [json.dumps(asked).encode()], descriptors)
            answer: int = json.loads(self._control.recv(_MESSAGE_BYTES))
        return answer


def _serve(control: socket.socket) -> Sequence[str]:
    """Does what it is asked for; returns only in children, with the arguments of one."""
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, _MESSAGE_BYTES, 1)
        if not message:
            sys.exit()
        asked = json.loads(message)
        if "ended" in asked:
            _, status = os.waitpid(asked["ended"], 0)
            answer = os.waitstatus_to_exitcode(status)
        else:
            answer = os.fork()
            if not answer:
                control.close()
                _become(asked["env"], asked["directory"], *descriptors)
                arguments: Sequence[str] = asked["arguments"]
                return arguments
            os.close(*descriptors)
        control.send(json.dumps(answer).encode())


def _become(env: Mapping[str, str], directory: str, output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(env)
    # It looks at the environment when it is imported.
    reload(faults)


if __name__ == "__main__":
    import condastore.daemon  # noqa: F401
    from condastore import cli

    gc.collect()
    gc.freeze()
    sys.exit(cli.main(_serve(socket.socket(fileno=int(sys.argv[1])))))
