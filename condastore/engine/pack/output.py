"""The file that a job makes: it appears whole, or not at all, and its hash is known at once."""

import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from io import FileIO
from mmap import ACCESS_READ, mmap
from pathlib import Path

from isal.isal_zlib import crc32

_MODE = 0o644
# What is mapped counts as memory, and this much is not waited for.
_WINDOW_BYTES = 8 << 20
_WINDOWS = 3
# Less than this is sooner read than mapped.
_SMALL_BYTES = 1 << 16


class Checksum:
    """The CRC-32 of what was appended to an output, which is known once that has settled."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, data: memoryview) -> None:
        """Adds to it."""
        self.value = crc32(data, self.value)


class Output:
    """A file that is written once from start to end, or again from a point before.

    The hash is computed in a thread, which may be some windows behind the file.
    """

    def __init__(self, file: FileIO, hashing: ThreadPoolExecutor) -> None:
        self._file = file
        self._hashing = hashing
        self._behind: deque[Future[None]] = deque()
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.mode = _MODE

    @property
    def sha256(self) -> str:
        """The hash of what was written so far."""
        self.settle()
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Adds to the file."""
        self._write(data)
        self._hash_later(data, Checksum())

    def append(self, path: Path, size: int) -> Checksum:
        """Adds the first bytes of another file. Raises ValueError if it has not as many."""
        checksum = Checksum()
        with path.open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < size:
                raise ValueError(f"{path} is shorter than {size} bytes")
            if size <= _SMALL_BYTES:
                self._append_small(file, size, checksum)
            else:
                for start in range(0, size, _WINDOW_BYTES):
                    window = min(_WINDOW_BYTES, size - start)
                    self._append(file.fileno(), start, window, checksum)
        return checksum

    def settle(self) -> None:
        """Waits until all that was written is hashed."""
        while self._behind:
            self._behind.popleft().result()

    def _append_small(self, file: FileIO, size: int, checksum: Checksum) -> None:
        data = file.read(size)
        if len(data) < size:
            raise _shortened()
        self._write(data)
        self._hash_later(data, checksum)

    def _append(self, source: int, start: int, size: int, checksum: Checksum) -> None:
        # Hashed from the page cache, while the kernel copies the same pages.
        data = mmap(source, size, access=ACCESS_READ, offset=start)
        self._hash_later(data, checksum)
        left = size
        while left:
            left -= self._copy(source, start + size - left, left)
        self.bytes += size

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self.bytes += len(data)

    def _copy(self, source: int, start: int, size: int) -> int:
        copied = 0
        with suppress(OSError):
            # It copies less often than sendfile, or nothing where files share their blocks.
            copied = os.copy_file_range(source, self._file.fileno(), size, start)
        # Not each file system can do that.
        if not copied and not (copied := os.sendfile(self._file.fileno(), source, start, size)):
            raise _shortened()
        return copied

    def _hash_later(self, data: bytes | mmap, checksum: Checksum) -> None:
        self._behind.append(self._hashing.submit(self._hash, data, checksum))
        while len(self._behind) > _WINDOWS:
            self._behind.popleft().result()

    def _hash(self, data: bytes | mmap, checksum: Checksum) -> None:
        with memoryview(data) as view:
            self._digest.update(view)
            checksum.update(view)
        if isinstance(data, mmap):
            data.close()

    @contextmanager
    def revocable(self) -> Iterator[None]:
        """Takes back what is written in the block if that fails."""
        self.settle()
        digest, size = self._digest.copy(), self.bytes
        try:
            yield
            self.settle()
        except BaseException:
            self.settle()
            self._digest, self.bytes = digest, size
            self._file.seek(size)
            self._file.truncate()
            raise


def _shortened() -> ValueError:
    return ValueError("it became shorter while it was read")


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
