"""A TCP proxy that does to connections what networks do: delay, cut, half-close, corrupt, drip."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum

PIECE_BYTES = 64 * 1024
DRIP_BYTES = 16
START_S = 30.0


class Silence(Enum):
    """What is no longer passed on, without anybody being told."""

    NONE = "none"
    ANSWERS = "answers"
    BOTH = "both"


@dataclass
class Trouble:
    """What is done to every connection from now on; all of it may be changed at any time."""

    delay_s: float = 0.0
    """Each piece comes so much later."""
    drip: int | None = None
    """Bytes a second."""
    corrupt: bool = False
    """Each piece of an answer has one bit flipped."""
    silence: Silence = Silence.NONE
    """A black hole, or half of one: connections stay open."""
    cut_after: int | None = None
    """The connection is reset when so many bytes of an answer have passed, or so many sent ones."""
    refuse: bool = False
    """New connections are reset at once."""


class FaultProxy:
    """Passes connections on to a port of this machine, in a thread of its own."""

    def __init__(self, target: int) -> None:
        self.trouble = Trouble()
        self.passed = 0
        """Connections that were taken."""
        self.port = 0
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def start(self) -> None:
        """Returns when it takes connections."""
        self._thread.start()
        assert self._ready.wait(START_S)

    def stop(self) -> None:
        """Cuts what is open and ends the thread."""
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Resets every connection that is open."""
        self._in_loop(lambda writer: writer.transport.abort())

    def half_close(self) -> None:
        """Ends one direction of every connection, as a program does that has nothing to add."""
        self._in_loop(asyncio.StreamWriter.write_eof)

    def _in_loop(self, act: Callable[[asyncio.StreamWriter], object]) -> None:
        done = threading.Event()

        def each() -> None:
            for writer in list(self._open):
                with suppress(OSError, RuntimeError):
                    act(writer)
            done.set()

        self._loop.call_soon_threadsafe(each)
        assert done.wait(START_S)

    async def _run(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for writer in list(self._open):
            writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.passed += 1
        if self.trouble.refuse:
            writer.transport.abort()
            return
        beyond = None
        self._open.add(writer)
        try:
            far, beyond = await asyncio.open_connection("127.0.0.1", self._target)
            self._open.add(beyond)
            await asyncio.gather(
                self._pass(reader, beyond, answers=False), self._pass(far, writer, answers=True)
            )
        except (OSError, asyncio.CancelledError):
            # It is over either way; a server's tasks are nobody's to wait for.
            pass
        finally:
            for end in filter(None, (writer, beyond)):
                self._open.discard(end)
                end.transport.abort()

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        passed = 0
        while data := await reader.read(PIECE_BYTES):
            trouble = self.trouble
            if trouble.silence is Silence.BOTH or (answers and trouble.silence is Silence.ANSWERS):
                continue
            if trouble.delay_s:
                await asyncio.sleep(trouble.delay_s)
            if trouble.corrupt and answers:
                data = data[:-1] + bytes([data[-1] ^ 1])
            passed += len(data)
            if trouble.cut_after is not None and passed >= trouble.cut_after:
                raise ConnectionResetError
            await self._write(writer, data)
        if writer.can_write_eof():
            writer.write_eof()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while self.trouble.drip and data:
            some, data = data[:DRIP_BYTES], data[DRIP_BYTES:]
            writer.write(some)
            await writer.drain()
            await asyncio.sleep(len(some) / self.trouble.drip)
        writer.write(data)
        await writer.drain()


@contextmanager
def proxied(target: int) -> Iterator[FaultProxy]:
    """A proxy in front of a port that is stopped at the end."""
    proxy = FaultProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
