"""The one place where child processes start, are listened to, and are ended.

A child leads its own process group, has a clean environment without the daemon's secrets, and
dies with the daemon (it asks the kernel for that itself). It tells its events on a pipe of its
own; what arrives on its standard output and error is text of packages and panics.
"""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from condastore.errors import BuildError
from condastore.faults import VARIABLE as FAULT_VARIABLE

Event = dict[str, Any]
Listener = Callable[[Event], Awaitable[None]]

# One event is at most the records of a solve for all platforms.
EVENT_BYTES = 64 * 1024 * 1024
OUTPUT_CHUNK = 64 * 1024
OUTPUT_LINE_CHARACTERS = 4096
# Text outside the protocol beyond this is read and dropped.
OUTPUT_BYTES = 16 * 1024 * 1024
PASSED_ON = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    FAULT_VARIABLE,
)
_TERMINAL_CODES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)|[@-_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class Child:
    """A running engine process that does one job at a time."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        events: asyncio.StreamReader,
        close: Callable[[], None],
    ) -> None:
        self._process = process
        self._events = events
        self._close_events = close
        self._listener: Listener | None = None
        self._output = asyncio.create_task(self._read_output(), name=f"output of {process.pid}")

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended by itself."""
        return self._process.returncode is None

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.pid

    async def do(self, job: dict[str, Any], listener: Listener) -> dict[str, Any]:
        """Sends a job and returns its result; `listener` gets the events before it.

        Raises `BuildError` for a job that failed and for a child that ended without a result.
        """
        assert self._process.stdin is not None
        self._listener = listener
        try:
            self._process.stdin.write(json.dumps(job).encode() + b"\n")
            await self._process.stdin.drain()
            while line := await self._events.readline():
                event: Event = json.loads(line)
                if event["t"] == "result":
                    return event
                if event["t"] == "error":
                    raise BuildError(event["kind"], event["text"])
                await listener(event)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except ValueError as error:
            raise BuildError("engine", f"the engine broke the protocol: {error}") from error
        raise await self._crashed()

    async def kill(self) -> None:
        """Ends the child and everything that it started, and waits until they are gone."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()
        self._output.cancel()
        await asyncio.gather(self._output, return_exceptions=True)
        self._close_events()

    async def _crashed(self) -> BuildError:
        status = await self._process.wait()
        await asyncio.wait([self._output], timeout=1)
        return crash(status)

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        room = OUTPUT_BYTES
        rest = ""
        while data := await self._process.stdout.read(OUTPUT_CHUNK):
            if room <= 0:
                continue
            room -= len(data)
            *lines, rest = (rest + data.decode("utf-8", "replace")).split("\n")
            if len(rest) > OUTPUT_LINE_CHARACTERS:
                lines, rest = [*lines, rest], ""
            await self._tell(lines)
            if room <= 0:
                await self._tell([f"[the output beyond {OUTPUT_BYTES} bytes is left out]"])
        await self._tell([rest] if rest else [])

    async def _tell(self, lines: list[str]) -> None:
        if self._listener is not None and lines:
            text = "\n".join(printable(line)[:OUTPUT_LINE_CHARACTERS] for line in lines)
            await self._listener({"t": "log", "step": "output", "text": text})


@asynccontextmanager
async def engine(scratch: Path) -> AsyncIterator[Child]:
    """Starts an engine process; it is gone, with all its own, when the block ends."""
    child = await start_engine(scratch)
    try:
        yield child
    finally:
        # The caller may be cancelled again while it waits, but the group must go.
        await asyncio.shield(asyncio.ensure_future(child.kill()))


async def start_engine(scratch: Path) -> Child:
    """Starts an engine process that waits for a job; its caller must `kill` it.

    `scratch` is an existing directory on the store's file system for what is of no use later.
    """
    reading, writing = os.pipe()
    try:
        # Listened to before it starts, so that a cancellation leaves no process behind.
        events, close_events = await _listen(reading)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "condastore.engine",
                "--events-fd",
                str(writing),
                "--parent",
                str(os.getpid()),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
                cwd=scratch,
                env=environment(scratch),
            )
        except BaseException:
            close_events()
            raise
    finally:
        os.close(writing)
    return Child(process, events, close_events)


async def _listen(descriptor: int) -> tuple[asyncio.StreamReader, Callable[[], None]]:
    """Returns a reader of a pipe, and what closes it."""
    events = asyncio.StreamReader(limit=EVENT_BYTES)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    try:
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(events), pipe
        )
    except BaseException:
        pipe.close()
        raise
    return events, transport.close


def environment(scratch: Path) -> dict[str, str]:
    """Returns the whole environment of a child."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        **passed,
    }


def crash(status: int) -> BuildError:
    """Returns what a child's exit status means that came without a result."""
    if status in (-signal.SIGABRT, -signal.SIGKILL):
        name = signal.Signals(-status).name
        return BuildError(
            "memory",
            f"the engine was ended by {name}, as a rule because it ran out of memory; "
            "see CondaStore.max_build_memory",
        )
    if status < 0:
        return BuildError("engine", f"the engine was ended by {signal.Signals(-status).name}")
    return BuildError("engine", f"the engine ended with status {status} and without a result")


def printable(line: str) -> str:
    """Returns a line without what a terminal would act on."""
    line = line.rsplit("\r", 1)[-1] if "\r" in line.rstrip("\r") else line.rstrip("\r")
    return _CONTROL.sub("", _TERMINAL_CODES.sub("", line))
