"""What systemd is to a daemon: it hears it, passes a socket on, and asks it to reload."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.harness import Daemon, eventually

DEADLINE_S = 60.0
# The daemon must be the process that the variables name.
EXEC = 'LISTEN_PID=$$ WATCHDOG_PID=$$; export LISTEN_PID WATCHDOG_PID; exec "$@" 3<&"$PASSED"'
EXEC_WITHOUT = 'WATCHDOG_PID=$$; export WATCHDOG_PID; exec "$@"'

Message = dict[str, str]


class Supervisor:
    """Listens at a socket of its own."""

    def __init__(self, directory: Path, *, abstract: bool = False) -> None:
        path = str(directory / "notify")
        self.address = f"@{path}" if abstract else path
        self._ears = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ears.bind("\0" + path if abstract else path)
        self.heard: list[Message] = []
        """All messages so far, in their order."""

    def hear(self, timeout_s: float = DEADLINE_S) -> Message | None:
        """Returns the next message; None if there is none in time."""
        self._ears.settimeout(timeout_s)
        try:
            text = self._ears.recv(64 * 1024).decode()
        except (TimeoutError, BlockingIOError):
            return None
        message = dict(line.split("=", 1) for line in text.split("\n"))
        self.heard.append(message)
        return message

    def until(self, name: str, value: str = "") -> Message:
        """Waits for a message that has a field, whose value holds a text."""
        deadline = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline:
            message = self.hear(1)
            if message is not None and name in message and value in message[name]:
                return message
        raise AssertionError(f"no {name}={value} in {self.heard}")

    def is_silent(self, for_s: float) -> bool:
        """Whether nothing comes for so long, beside what had come already."""
        while self.hear(0) is not None:
            continue
        return self.hear(for_s) is None

    def close(self) -> None:
        self._ears.close()


@contextmanager
def supervised(
    supervisor: Supervisor,
    data: Path,
    *arguments: str,
    listening: socket.socket | None = None,
    watchdog_s: float | None = None,
) -> Iterator[Daemon]:
    """A daemon as systemd starts it; it may not serve yet."""
    daemon = Daemon(data, *arguments)
    data.mkdir(parents=True, exist_ok=True)
    passed = (listening.fileno(),) if listening is not None else ()
    variables = {"NOTIFY_SOCKET": supervisor.address}
    if watchdog_s is not None:
        variables["WATCHDOG_USEC"] = str(int(watchdog_s * 1_000_000))
    if listening is not None:
        variables |= {"LISTEN_FDS": "1", "PASSED": str(listening.fileno())}
    with daemon.output.open("ab") as output:
        daemon.process = subprocess.Popen(
            [
                "bash",
                "-c",
                EXEC if listening is not None else EXEC_WITHOUT,
                "bash",
                *[sys.executable, "-m", "condastore", "serve", f"--data={data}"],
                *arguments,
                *daemon.defaults(),
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=passed,
            env=daemon.environment(**variables),
        )
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.send_signal(signal.SIGCONT)
            daemon.kill()
        daemon.client.close()


def ready(supervisor: Supervisor, daemon: Daemon) -> None:
    """Waits until the daemon says that it serves."""
    supervisor.until("READY")
    printed = daemon.output.read_text()
    url = re.search(r"serves (http\S+)/api/v1/", printed)
    token = re.search(r"change anything: (\S+)\n", printed)
    assert url and token, printed
    daemon.url, daemon.token = url[1], token[1]
    daemon.client.headers["Authorization"] = f"Bearer {daemon.token}"


def says(daemon: Daemon, text: str) -> None:
    """Waits until the daemon's log has a text."""
    eventually(
        lambda: text in daemon.output.read_text(),
        DEADLINE_S,
        what=lambda: daemon.output.read_text(),
    )
