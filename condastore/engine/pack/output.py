"""The file that a job makes: it appears whole, or not at all, and its hash is known at once."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_MODE = 0o644


class Output:
    """A file that is written once from start to end, or again from a point before."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.bytes = 0
        self.mode = _MODE

    @property
    def sha256(self) -> str:
        """The hash of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Adds to the file."""
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)

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
        with beside.open("wb", buffering=0) as file:
            out = Output(file)
            yield out
            os.fchmod(file.fileno(), out.mode)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
