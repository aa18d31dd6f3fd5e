"""The file that a job makes: it appears whole, or not at all, and its hash is known at once."""

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import FileIO
from mmap import ACCESS_READ, mmap
from pathlib import Path

from isal.isal_zlib import crc32

_MODE = 0o644
# What is mapped counts as memory.
_WINDOW_BYTES = 16 << 20


class Output:
    """A file that is written once from start to end, or again from a point before."""

    def __init__(self, file: FileIO, hashing: ThreadPoolExecutor) -> None:
        self._file = file
        self._hashing = hashing
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.mode = _MODE

    @property
    def sha256(self) -> str:
        """The hash of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Adds to the file."""
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._digest.update(data)
        self.bytes += len(data)

    def append(self, path: Path, size: int) -> int:
        """Adds the first bytes of another file, and returns their CRC-32.

        Raises ValueError if it has not as many.
        """
        crc = 0
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < size:
                raise ValueError(f"{path} is shorter than {size} bytes")
            for start in range(0, size, _WINDOW_BYTES):
                crc = self._append(file.fileno(), start, min(_WINDOW_BYTES, size - start), crc)
        self.bytes += size
        return crc

    def _append(self, source: int, start: int, size: int, crc: int) -> int:
        with mmap(source, size, access=ACCESS_READ, offset=start) as data:
            # The kernel copies while a thread computes.
            hashing = self._hashing.submit(self._hash, data, crc)
            try:
                left = size
                while left:
                    left -= self._send(source, start + size - left, left)
            finally:
                crc = hashing.result()
        return crc

    def _send(self, source: int, start: int, size: int) -> int:
        sent = os.sendfile(self._file.fileno(), source, start, size)
        if not sent:
            raise ValueError("it became shorter while it was read")
        return sent

    def _hash(self, data: mmap, crc: int) -> int:
        with memoryview(data) as view:
            self._digest.update(view)
            return crc32(view, crc)

    @contextmanager
    def revocable(self) -> Iterator[None]:
        """Takes back what is written in the block if that fails."""
        digest, size = self._digest.copy(), self.bytes
        try:
            yield
        except BaseException:
            self._digest, self.bytes = digest, size
            self._file.seek(size)
            self._file.truncate()
            raise


@contextmanager
def output(path: Path) -> Iterator[Output]:
    """Makes a file beside `path` and moves it there at the end of the block."""
    beside = path.with_name(path.name + ".part")
    try:
        with FileIO(beside, "w") as file, ThreadPoolExecutor(1) as hashing:
            out = Output(file, hashing)
            yield out
            os.fchmod(file.fileno(), out.mode)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
