"""A reader of a log who costs next to nothing, so that what is measured is the daemon."""

import asyncio
import json
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from benchmarks.ticking_engine import Arrival

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\n"
    "Host: {host}\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# RFC 6455 §5.2
TEXT = 0x81
LONGER = {126: 2, 127: 8}


class Tail(asyncio.Protocol):
    """A websocket that notes what comes and when, and reads it when all is over."""

    def __init__(self, path: str, host: str) -> None:
        self.ended = asyncio.get_running_loop().create_future()
        self._handshake = HANDSHAKE.format(path=path, host=host).encode()
        self._pieces: list[tuple[int, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks for the log."""
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(self._handshake)

    def data_received(self, data: bytes) -> None:
        """Notes what has come."""
        self._pieces.append((time.monotonic_ns(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends it."""
        if not self.ended.done():
            self.ended.set_result(exc)

    def texts(self) -> Iterator[Arrival]:
        """Yields the text that each frame had, and when all of it had come."""
        rest, is_open = b"", False
        for now_ns, data in self._pieces:
            rest += data
            if not is_open:
                head, end, after = rest.partition(b"\r\n\r\n")
                if not end:
                    continue
                assert head.startswith(b"HTTP/1.1 101"), head
                is_open, rest = True, after
            while (frame := _frame(rest)) is not None:
                first, payload, rest = frame
                message = json.loads(payload) if first == TEXT else {}
                if "text" in message:
                    yield now_ns, message["text"]


def _frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Returns a frame's first byte, what it holds, and what follows; None if it is not whole."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size in LONGER:
        start += LONGER[size]
        size = int.from_bytes(data[2:start], "big")
    end = start + size
    return (data[0], data[start:end], data[end:]) if len(data) >= end else None


async def read(address: str) -> list[Arrival]:
    """Returns the texts of a log, by its address as a websocket, when it has ended."""
    url = urlsplit(address)
    _, tail = await asyncio.get_running_loop().create_connection(
        lambda: Tail(f"{url.path}?{url.query}", url.netloc), url.hostname or "", url.port or 80
    )
    error = await tail.ended
    assert error is None, error
    return list(tail.texts())
