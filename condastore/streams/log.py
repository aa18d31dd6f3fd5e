"""One build's log: a file that grows, and the events that go with it.

The file holds valid UTF-8 and is only ever appended to. Readers share nothing but the file, its
last lines in memory and a wake-up, so a slow one costs the daemon nothing: it finds the text in the
file, the phases in a short list, and of the progress only the newest.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from condastore.streams.audience import Audience

logger = logging.getLogger(__name__)

CHUNK_BYTES = 64 * 1024
# The writer waits when this much text has not reached the file.
BACKLOG_BYTES = 1024 * 1024
PHASES_KEPT = 256
# A UTF-8 character has at most this many bytes after its first.
MAX_REST = 3


@dataclass(frozen=True)
class Text:
    """A piece of the log; `offset` is where it begins, in bytes."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.offset + len(self.data)

    def since(self, offset: int) -> bytes | None:
        """Returns what of it comes from an offset on; None if it begins behind that."""
        return self.data[offset - self.offset :] if offset >= self.offset else None

    def extended(self, data: bytes) -> "Text":
        """Returns it with more at its end, and without its beginning if it would be too long."""
        data = self.data + data
        start = max(len(data) - CHUNK_BYTES, 0)
        if start:
            start = character_start(data, start)
        return Text(self.offset + start, data[start:])


@dataclass(frozen=True)
class Happened:
    """A phase that began, or progress within it."""

    event: dict[str, Any]


@dataclass(frozen=True)
class Ended:
    """The build is over, with this status; nothing follows."""

    status: str


Position = Text | Happened | Ended


class BuildLog:
    """The log of a build that runs in this process."""

    def __init__(self, path: Path, max_bytes: int, executor: Executor) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._executor = executor
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size = _whole_lines(self._fd)
        self._tail = Text(self._size, b"")
        self._accepted = self._size
        self._full = self._accepted >= max_bytes
        self._ending: asyncio.Task[None] | None = None
        self._pending = bytearray()
        self._writing: asyncio.Task[None] | None = None
        self._phases: list[dict[str, Any]] = []
        self._progress: dict[str, Any] | None = None
        self._progress_count = 0
        self._status: str | None = None
        self._detached = False
        self._releasing: asyncio.Task[None] | None = None
        self._audience = Audience()

    @property
    def released(self) -> bool:
        """Whether another daemon may write this build's log now."""
        return self._releasing is not None

    def append(self, text: str, *, always: bool = False) -> None:
        """Adds text, ending in a line break; beyond the log's limit it is left out, visibly.

        With `always` it is added nevertheless: what became of the build must be there to read.
        """
        if self.released:
            return
        if self._ending is not None:
            logger.error("%s has ended and can't take %r", self.path, text)
            return
        if self._full and not always:
            return
        data = _clean(text).encode("utf-8", "replace")
        room = max(self._max_bytes - self._accepted, 0)
        if len(data) > room and not always:
            self._full = True
            kept = data[:room].decode("utf-8", "ignore").encode()
            data = (
                kept
                + (
                    f"\n[condastore: the log reached its limit of {self._max_bytes} bytes; "
                    "what came after was left out]\n"
                ).encode()
            )
        self._accepted += len(data)
        self._pending += data
        self._write_soon()

    async def drain(self) -> None:
        """Waits while the file is far behind; called between the child's events."""
        while len(self._pending) > BACKLOG_BYTES and self._writing is not None:
            await asyncio.wait([self._writing])

    async def flush(self) -> None:
        """Waits until everything that was appended is in the file, if its disk takes it."""
        while self._writing is not None:
            await asyncio.wait([self._writing])

    def happened(self, event: dict[str, Any]) -> None:
        """Tells the readers of a phase or of progress."""
        if event.get("event") == "progress":
            self._progress = event
            self._progress_count += 1
        elif len(self._phases) < PHASES_KEPT:
            self._phases.append(event)
            self._progress = None
        self._audience.notify()

    async def end(self, status: str) -> None:
        """Writes what is pending, makes the file durable, and tells the readers; once.

        Whoever waits may be cancelled; the log ends nevertheless. One that was released does not.
        """
        if self._releasing is not None:
            await asyncio.shield(self._releasing)
            return
        if self._ending is None:
            self._ending = asyncio.create_task(self._end(status), name=f"end of {self.path.name}")
        await asyncio.shield(self._ending)

    async def release(self) -> None:
        """Ends the readers without an end of the log: the build may be another daemon's now.

        What has ended stays so. Whoever waits may be cancelled, and others may release it as well.
        """
        if self._ending is not None:
            return
        if self._releasing is None:
            self._releasing = asyncio.create_task(
                self._release(), name=f"release of {self.path.name}"
            )
        await asyncio.shield(self._releasing)

    def detach(self) -> None:
        """Ends the readers without an end of the log: the daemon stops, the build does not."""
        self._detached = True
        self._audience.notify()

    def follow(self, offset: int) -> AsyncIterator[Position]:
        """Returns the text from a byte offset on, the events since the build's start, and the end.

        An offset inside a character is moved back to its first byte. Raises `FileNotFoundError`
        if the log has ended and was moved to the storage.
        """
        return (position async for position in self.watch(offset) if position is not None)

    def watch(self, offset: int) -> AsyncIterator[Position | None]:
        """Returns the same, and None now and then while nothing comes."""
        return self._watch(self.path.open("rb", buffering=0), offset)

    async def _watch(self, file: FileIO, offset: int) -> AsyncIterator[Position | None]:
        loop = asyncio.get_running_loop()
        with file:
            fd = file.fileno()
            offset = await loop.run_in_executor(self._executor, align, fd, offset)
            phases, progress = 0, 0
            while not self._detached:
                changes, ended = self._audience.changes, self._status
                if offset < self._size:
                    data = self._tail.since(offset)
                    if data is None:
                        data = await loop.run_in_executor(self._executor, read_text, fd, offset)
                    yield Text(offset, data)
                    offset += len(data)
                for event in self._phases[phases:]:
                    phases += 1
                    yield Happened(event)
                if self._progress is not None and progress != self._progress_count:
                    progress = self._progress_count
                    yield Happened(self._progress)
                if offset >= self._size:
                    if ended is not None:
                        yield Ended(ended)
                        return
                    if not await self._audience.changed(changes):
                        yield None

    async def _release(self) -> None:
        await self.flush()
        os.close(self._fd)
        self.detach()

    async def _end(self, status: str) -> None:
        await self.flush()
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._executor, _close, self._fd)
        except OSError as error:
            logger.error("%s: %s; the end of this log may be lost", self.path, error)
        self._status = status
        self._audience.notify()

    def _write_soon(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write(), name=f"log {self.path.name}")

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                data, self._pending = bytes(self._pending), bytearray()
                try:
                    await loop.run_in_executor(self._executor, _write_all, self._fd, data)
                except OSError as error:
                    # A full disk ends the build by other means; its log must not be what ends it.
                    logger.error("%s: %s; the rest of this log is lost", self.path, error)
                    self._full = True
                self._grew(data)
        finally:
            self._writing = None

    def _grew(self, data: bytes) -> None:
        """Lets the readers have what was written, and may not be there as a whole."""
        tail, self._size = self._tail.extended(data), os.fstat(self._fd).st_size
        self._tail = tail if tail.end == self._size else Text(self._size, b"")
        self._audience.notify()


def align(fd: int, offset: int) -> int:
    """Returns the start of the character that the byte at `offset` belongs to."""
    size = os.fstat(fd).st_size
    offset = min(max(offset, 0), size)
    for start in range(offset, max(offset - MAX_REST, 0) - 1, -1):
        byte = os.pread(fd, 1, start)
        if not byte or byte[0] & 0xC0 != 0x80:
            return start
    return offset


def _whole_lines(fd: int) -> int:
    """Ends the line in which a daemon before this one died, if so; returns the file's size."""
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        start = align(fd, size - 1)
        try:
            os.pread(fd, size - start, start).decode()
        except UnicodeDecodeError:
            os.ftruncate(fd, start)
        os.write(fd, b"\n")
    return os.fstat(fd).st_size


def read_text(fd: int, offset: int) -> bytes:
    """Returns up to 64 KiB from `offset`, ending with a whole character."""
    data = os.pread(fd, CHUNK_BYTES, offset)
    return data[: whole_length(data)] or data


def whole_length(data: bytes) -> int:
    """Returns the length without an incomplete character at the end."""
    start = character_start(data, len(data) - 1)
    try:
        data[start:].decode()
    except UnicodeDecodeError:
        return start
    return len(data)


def character_start(data: bytes, index: int) -> int:
    """Returns where the character begins that the byte at `index` belongs to."""
    for start in range(index, max(index - MAX_REST, 0) - 1, -1):
        if data[start] & 0xC0 != 0x80:
            return start
    return index


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _close(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _clean(text: str) -> str:
    """Drops what a terminal or an editor would stumble over."""
    return text.replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")
