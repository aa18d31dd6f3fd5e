"""Runs another program: its output streamed and bounded, and its life tied to ours."""

import contextlib
import functools
import os
import selectors
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from condastore.engine.confine import die_with_parent
from condastore.engine.events import EngineError
from condastore.engine.redaction import without_credentials

OUTPUT_LIMIT_BYTES = 64 * 2**20
LOG_LIMIT_BYTES = 2**20
LINE_LIMIT_BYTES = 4096
TAIL_LINES = 60
TICK_S = 0.2

_KEPT_VARIABLES = (
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
)


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    returncode: int
    output: str
    """All of its standard output, if that was not logged."""
    complaints: str
    """The last lines of what was logged."""


def base_environment() -> dict[str, str]:
    """The few of our own variables that every program may see."""
    return {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    log: Callable[[str], None],
    tick: Callable[[], None] = lambda: None,
    timeout_s: float | None = None,
    logs_output: bool = False,
) -> Outcome:
    """Runs a program to its end, logging its standard error and keeping its standard output.

    With `logs_output` both are logged, in the order in which they are printed. `tick` is called a
    few times a second meanwhile. The program is killed when we are, when it prints more than it
    may, and when its time is over.
    """
    name = Path(command[0]).name
    complaints = _Complaints(log)
    output = bytearray()
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    with _started(command, environment, directory, is_one_stream=logs_output) as process:
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        for stream, data in _chunks(*streams):
            if stream is streams[-1]:
                complaints.add(data)
            else:
                output += data
            if len(output) > OUTPUT_LIMIT_BYTES:
                limit = OUTPUT_LIMIT_BYTES // 2**20
                raise EngineError("engine", f"{name} printed more than {limit} MiB")
            if deadline is not None and time.monotonic() > deadline:
                raise EngineError("timeout", f"{name} took more than {timeout_s:g} seconds")
            tick()
        returncode = process.wait()
    complaints.end()
    return Outcome(returncode, output.decode(errors="replace"), complaints.tail())


@contextlib.contextmanager
def _started(
    command: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    is_one_stream: bool,
) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if is_one_stream else subprocess.PIPE,
            # Environments are for others too, whatever the daemon's own files are.
            umask=0o022,
            preexec_fn=functools.partial(die_with_parent, os.getpid()),
        )
    except OSError as error:
        text = f"{Path(command[0]).name} can't be started: {error.strerror}"
        raise EngineError("engine", text) from None
    with process:
        try:
            yield process
        finally:
            process.kill()


def _chunks(*streams: IO[bytes]) -> Iterator[tuple[IO[bytes] | None, bytes]]:
    """What the streams say until all have ended; `(None, b"")` when they are silent for a tick."""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            selector.register(stream, selectors.EVENT_READ, stream)
        while selector.get_map():
            ready = selector.select(TICK_S)
            for key, _ in ready:
                data = os.read(key.fd, 2**16)
                if not data:
                    selector.unregister(key.data)
                yield key.data, data
            if not ready:
                yield None, b""


class _Complaints:
    """Standard error on its way to the log: whole lines, no secrets, and not without end."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._rest = b""
        self._logged_bytes = 0
        self._last: deque[str] = deque(maxlen=TAIL_LINES)

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_LIMIT_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        self._emit(lines)

    def end(self) -> None:
        self._emit([self._rest] if self._rest else [])

    def tail(self) -> str:
        return "\n".join(self._last)

    def _emit(self, lines: Sequence[bytes]) -> None:
        texts = [line[:LINE_LIMIT_BYTES].decode(errors="replace").rstrip() for line in lines]
        texts = [without_credentials(text) for text in texts]
        self._last.extend(texts)
        if not texts or self._logged_bytes > LOG_LIMIT_BYTES:
            return
        self._logged_bytes += sum(map(len, texts))
        if self._logged_bytes > LOG_LIMIT_BYTES:
            texts.append("(the rest of this program's messages is not shown)")
        self._log("\n".join(texts))
