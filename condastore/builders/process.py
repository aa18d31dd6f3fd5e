"""The one place where child processes start, are listened to, and are ended.

A child leads its own process group, has a clean environment without the daemon's secrets, and
dies with the daemon (it asks the kernel for that itself). It tells its events on a pipe of its
own; what arrives on its standard output and error is text of packages and panics.
"""

import asyncio
import codecs
import json
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from condastore.cancellation import uninterrupted
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
# A process that left its group may hold the pipe open; a cancel has no more time than this.
LAST_OUTPUT_S = 0.5
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
# C1 controls, which some terminals act on as well, are two bytes in UTF-8.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Pipes(asyncio.subprocess.SubprocessStreamProtocol):
    """A process's standard streams, and when it ended.

    asyncio's own `wait` waits for the streams as well, and a process that left the group may hold
    them open for ever.
    """

    def __init__(self) -> None:
        super().__init__(limit=OUTPUT_CHUNK, loop=asyncio.get_running_loop())
        self.exited = asyncio.Event()

    def process_exited(self) -> None:
        super().process_exited()
        self.exited.set()


class SilentEnd(BuildError):
    """A child that has ended, and that said nothing of its job."""


class Child:
    """A running engine process that does one job at a time."""

    def __init__(
        self,
        process: asyncio.SubprocessTransport,
        pipes: _Pipes,
        events: asyncio.StreamReader,
        close_events: Callable[[], None],
        directory: Path,
    ) -> None:
        self._process = process
        self._pipes = pipes
        self._events = events
        self._close_events = close_events
        self._directory = directory
        self._listener: Listener | None = None
        self._output = asyncio.create_task(self._read_output(), name=f"output of {self.pid}")
        self._end = asyncio.create_task(self._follow_to_end(), name=f"end of {self.pid}")

    @property
    def is_alive(self) -> bool:
        """Whether the process has not ended by itself."""
        return self._process.get_returncode() is None

    @property
    def pid(self) -> int:
        """The process id, which is also its group's."""
        return self._process.get_pid()

    async def do(self, job: dict[str, Any], listener: Listener) -> dict[str, Any]:
        """Sends a job and returns its result; `listener` gets the events before it.

        Raises `BuildError` for a job that failed and for a child that ended without a result,
        `SilentEnd` if it may never have begun.
        """
        assert self._pipes.stdin is not None
        self._listener = listener
        is_silent = True
        try:
            self._pipes.stdin.write(json.dumps(job).encode() + b"\n")
            await self._pipes.stdin.drain()
            # A line without an end is the last of a child that died in it.
            while (line := await self._events.readline()).endswith(b"\n"):
                is_silent = False
                event: Event = json.loads(line)
                if event["t"] == "result":
                    return event
                if event["t"] == "error":
                    raise BuildError(event["kind"], event["text"])
                await listener(event)
        except (BrokenPipeError, ConnectionResetError):
            pass
        except (ValueError, TypeError, KeyError) as error:
            raise BuildError("engine", f"the engine broke the protocol: {error!r}") from error
        reason = await self._crashed(job.get("limits", {}).get("memory_bytes"))
        raise SilentEnd(reason.kind, str(reason)) if is_silent else reason

    async def kill(self) -> None:
        """Ends the child and everything that it started, and removes what they put aside."""
        if self.is_alive:
            self._kill_group()
        await self._end
        # What it wrote last may still be in the pipe.
        await asyncio.wait([self._output], timeout=LAST_OUTPUT_S)
        self._output.cancel()
        await asyncio.gather(self._output, return_exceptions=True)
        self._process.close()
        self._close_events()
        # What a dying grandchild still writes is left for the next start.
        await asyncio.to_thread(shutil.rmtree, self._directory, ignore_errors=True)

    async def _crashed(self, memory_bytes: int | None) -> BuildError:
        await self._end
        await asyncio.wait([self._output], timeout=LAST_OUTPUT_S)
        return crash(self._process.get_returncode() or 0, memory_bytes)

    async def _follow_to_end(self) -> None:
        """Ends with the process, and with it all that it left behind: soon after, its id may be
        another's.
        """
        await self._pipes.exited.wait()
        self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    async def _read_output(self) -> None:
        assert self._pipes.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        room = OUTPUT_BYTES
        rest = ""
        while data := await self._pipes.stdout.read(OUTPUT_CHUNK):
            if room <= 0:
                continue
            room -= len(data)
            *lines, rest = (rest + decoder.decode(data)).split("\n")
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
async def engine(scratch: Path, *arguments: str) -> AsyncIterator[Child]:
    """Starts an engine process; it is gone, with all its own, when the block ends."""
    child = await start_engine(scratch, *arguments)
    try:
        yield child
    finally:
        # The caller may be cancelled again while it waits, but the group must go.
        await uninterrupted(child.kill())


async def start_engine(scratch: Path, *arguments: str) -> Child:
    """Starts an engine process that waits for a job; its caller must `kill` it.

    `scratch` is an existing directory on the store's file system, for what is of no use later;
    the arguments are the engine's, besides those that say how to speak with it.
    """
    # Not in a thread: a cancellation would leave it there.
    directory = Path(tempfile.mkdtemp(dir=scratch))
    try:
        return await _start(directory, *arguments)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


async def _start(directory: Path, *arguments: str) -> Child:
    reading, writing = os.pipe()
    try:
        # Listened to before it starts, so that a cancellation leaves no process behind.
        events, close_events = await _listen(reading)
        try:
            process, pipes = await asyncio.get_running_loop().subprocess_exec(
                _Pipes,
                sys.executable,
                "-I",
                "-m",
                "condastore.engine",
                "--events-fd",
                str(writing),
                "--parent",
                str(os.getpid()),
                *arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
                # Environments are for others too. What is private is in directories that are.
                umask=0o022,
                cwd=directory,
                env=environment(directory),
            )
        except BaseException:
            close_events()
            raise
    finally:
        os.close(writing)
    return Child(process, pipes, events, close_events, directory)


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


def environment(directory: Path) -> dict[str, str]:
    """Returns the whole environment of a child; the directory is its own."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(directory),
        "TMPDIR": str(directory),
        **passed,
    }


def crash(status: int, memory_bytes: int | None = None) -> BuildError:
    """Returns what a child's exit status means that came without a result.

    What it has used of its memory, if it had a limit, died with it.
    """
    if status in (-signal.SIGABRT, -signal.SIGKILL):
        name = signal.Signals(-status).name
        limit = "" if memory_bytes is None else f" (limit {memory_bytes / 1e9:.1f} GB)"
        return BuildError(
            "memory",
            f"the engine was ended by {name}, as a rule because it ran out of memory{limit}; "
            "see CondaStore.max_build_memory",
        )
    if status < 0:
        name = signal.strsignal(-status) or "unknown"
        return BuildError("engine", f"the engine was ended by signal {-status} ({name})")
    return BuildError("engine", f"the engine ended with status {status} and without a result")


def printable(line: str) -> str:
    """Returns a line without what a terminal would act on."""
    line = line.rsplit("\r", 1)[-1] if "\r" in line.rstrip("\r") else line.rstrip("\r")
    return _CONTROL.sub("", _TERMINAL_CODES.sub("", line))
