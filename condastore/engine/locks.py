"""Claims: locks between processes that the kernel frees when their holder dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Claim:
    """The sole right to make one thing."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives the right back."""
        os.unlink(self._path)
        os.close(self._descriptor)


def claim(path: Path) -> Claim | None:
    """Claims what `path` stands for, or nothing if another process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _lock(descriptor, fcntl.LOCK_EX):
            os.close(descriptor)
            return None
        if _is_open_at(path, descriptor):
            return Claim(path, descriptor)
        # Its holder removed the file between our open and our lock: that lock excludes nobody.
        os.close(descriptor)


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Waits for, and holds, the lock of a directory; for the moment of a few system calls."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def hold_if_free(directory: Path) -> int | None:
    """Locks a directory while the descriptor stays open; not one that is locked or gone."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        # Its owner renames it at its end, whoever looks at it.
        return None
    if _lock(descriptor, fcntl.LOCK_EX):
        return descriptor
    os.close(descriptor)
    return None


def _lock(descriptor: int, operation: int) -> bool:
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_open_at(path: Path, descriptor: int) -> bool:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return False
    return os.path.samestat(status, os.fstat(descriptor))
