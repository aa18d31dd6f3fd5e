"""Compression in pieces that may follow each other: a gzip file of members, or zstd frames."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

Write = Callable[[bytes], object]

_PIECE_BYTES = 4 << 20
_THREADS = 2
# Enough to keep the threads busy; more would only take memory.
_PIECES_WAITING = 6
_ISAL_LEVEL = 2
_ZSTD_LEVEL = 3


@dataclass(frozen=True)
class Codec:
    """One way to compress; the key names all that its output depends on but the input."""

    key: str
    compress: Callable[[bytes | bytearray], bytes]


def codec_of(archive_format: str) -> Codec:
    """Returns the codec of `tar.gz` or `tar.zst`."""
    if archive_format == "tar.gz":
        import isal
        from isal import isal_zlib

        compress = partial(isal_zlib.compress, level=_ISAL_LEVEL, wbits=31)
        return Codec(f"isal-{isal.__version__}-{_ISAL_LEVEL}-{_PIECE_BYTES}", compress)
    import zstandard

    def compress_frame(data: bytes | bytearray) -> bytes:
        # A compressor of its own for each piece: threads can't share one.
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(data)

    return Codec(f"zstd-{zstandard.__version__}-{_ZSTD_LEVEL}-{_PIECE_BYTES}", compress_frame)


class Compressor:
    """Compresses in threads; what comes out is handed over in the order of what went in."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._threads = ThreadPoolExecutor(_THREADS)
        self._waiting: deque[tuple[Future[bytes] | None, Callable[[bytes], object]]] = deque()

    def __enter__(self) -> "Compressor":
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def compress(self, data: bytes | bytearray, write: Write) -> None:
        """Compresses a piece, and passes it to `write` some time later, in this thread."""
        self._add(self._threads.submit(self._codec.compress, data), write)

    def then(self, action: Callable[[], object]) -> None:
        """Does something once all pieces so far are written."""
        self._add(None, lambda _: action())

    def finish(self) -> None:
        """Waits until everything is written."""
        while self._waiting:
            self._hand_over()

    def _add(self, future: Future[bytes] | None, receive: Callable[[bytes], object]) -> None:
        self._waiting.append((future, receive))
        while len(self._waiting) > _PIECES_WAITING:
            self._hand_over()

    def _hand_over(self) -> None:
        future, receive = self._waiting.popleft()
        receive(b"" if future is None else future.result())


class Pieces:
    """A stream that is cut into pieces to be compressed."""

    def __init__(self, compressor: Compressor, write: Write) -> None:
        self._compressor = compressor
        self._write = write
        self._piece = bytearray()

    def write(self, data: bytes) -> None:
        """Adds to the stream; the same calls give the same pieces."""
        self._piece += data
        if len(self._piece) >= _PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Ends a piece here."""
        if self._piece:
            self._compressor.compress(self._piece, self._write)
            self._piece = bytearray()
