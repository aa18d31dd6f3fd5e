"""Who may use a directory: one daemon, or, on one PostgreSQL, several that share a store."""

import asyncio
import fcntl
import hashlib
import logging
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from condastore.cancellation import uninterrupted
from condastore.errors import NotYet, unusable
from condastore.files import PRIVATE, make_directory, open_lock

logger = logging.getLogger(__name__)

# So long a daemon may prepare a store that others wait for.
SHARE_S = 60.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# Whoever switches a link needs its lock for the moment of a few system calls.
LOOK_S = 0.02
LONG_S = 5.0
_SET = "set c.CondaStore.data_directory and c.CondaStore.store_directory to"


class InUse(NotYet):
    """Another daemon uses the directory."""


@asynccontextmanager
async def alone_with(path: Path, wait_s: float | None = None) -> AsyncIterator[None]:
    """Within the block nobody else, in any process, has the lock of this file, which it makes.

    Raises `TimeoutError` if somebody still has it after so many seconds; without them it waits.
    """
    lock = _FileLock(path)
    began, is_told = time.monotonic(), False
    try:
        # On a file system of another machine each of these may take its time.
        while not await uninterrupted(asyncio.to_thread(lock.take)):
            waited_s = time.monotonic() - began
            if wait_s is not None and waited_s > wait_s:
                raise TimeoutError(lock.complaint())
            if waited_s > LONG_S and not is_told:
                logger.warning("%s", lock.complaint())
                is_told = True
            await asyncio.sleep(LOOK_S)
        yield
    finally:
        await uninterrupted(asyncio.to_thread(lock.release))


class _FileLock:
    """A lock that others wait for; its file says who has it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def take(self) -> bool:
        """Whether it is ours now."""
        if self._fd < 0:
            make_directory(self._path.parent, PRIVATE)
            self._fd = open_lock(self._path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        _sign(self._fd, f"{os.getpid()} on {socket.gethostname()}")
        return True

    def complaint(self) -> str:
        """Returns who has it, and what to do."""
        return (
            f"process {_signature(self._fd)} has locked {self._path} and does not go on: is it "
            "stopped? Continue or kill it"
        )

    def release(self) -> None:
        """Lets others have it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _sign(descriptor: int, text: str) -> None:
    # Only who is told of it misses it on a full disk.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{text}\n".encode(), 0)


def _signature(descriptor: int) -> str:
    return os.pread(descriptor, 300, 0).decode("utf-8", "replace").strip() or "unknown"


class DirectoryLock:
    """Held from `acquire` until the process ends, however it ends."""

    def __init__(self, path: Path, mode: int | None = None) -> None:
        """A directory that is not there is made with this mode, or that of the umask."""
        self._path = path
        self._mode = mode
        self._fd = -1

    def acquire(self) -> None:
        """Raises `ConfigurationError` if another daemon holds it, or it can't be written."""
        try:
            make_directory(self._path.parent, self._mode)
            self._fd = open_lock(self._path)
        except OSError as error:
            raise unusable(
                self._path.parent, error, f"{_SET} directories that this user may write to"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _signature(self._fd)
            self.release()
            raise InUse(
                f"another condastore (process {owner}) uses {self._path.parent}; stop it, or give "
                "this one its own c.CondaStore.data_directory"
            ) from None
        except OSError as error:
            self.release()
            advice = f"{_SET} directories of a file system that has locks"
            raise unusable(self._path.parent, error, advice, "locked") from error
        _sign(self._fd, str(os.getpid()))

    def identity(self) -> str:
        """Returns a name, at most 47 characters long, that no other living daemon can have.

        So whoever had it before is dead. It is of the locked file, which a copy of the directory
        does not have, and of this boot of this machine: after the next one it is another name.
        """
        found = os.fstat(self._fd)
        try:
            boot = _BOOT.read_text()
        except OSError:
            # Nobody is recognised then.
            boot = uuid.uuid4().hex
        text = f"{boot} {found.st_dev} {found.st_ino}"
        return f"{socket.gethostname()[:30]}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def acquire_shared(self) -> bool:
        """Returns whether this daemon is alone, and then keeps others out until `share`.

        Otherwise it waits while the other one prepares. Raises `ConfigurationError` like `acquire`.
        """
        deadline = time.monotonic() + SHARE_S
        while True:
            try:
                self.acquire()
                return True
            except InUse:
                if self._share_if_free():
                    return False
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.1)

    def share(self) -> None:
        """Lets other daemons share the directory from now on."""
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def _share_if_free(self) -> bool:
        """Whether it could be shared with those who do already."""
        try:
            self._fd = open_lock(self._path)
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Lets another daemon in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
