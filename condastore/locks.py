"""One daemon per state directory."""

import fcntl
import os
from pathlib import Path

from condastore.errors import ConfigurationError


class DirectoryLock:
    """Held from `acquire` until the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self) -> None:
        """Raises `ConfigurationError` if another daemon holds it, or it can't be written."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigurationError(
                f"{self._path.parent} can't be used: {error.strerror}; set "
                "c.CondaStore.data_directory and c.CondaStore.store_directory to directories that "
                "this user may write to"
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise ConfigurationError(
                f"another condastore (process {owner}) uses {self._path.parent}; stop it, or give "
                "this one its own c.CondaStore.data_directory"
            ) from None
        except OSError as error:
            os.close(self._fd)
            raise ConfigurationError(
                f"{self._path.parent} can't be locked: {error.strerror}; set "
                "c.CondaStore.data_directory and c.CondaStore.store_directory to directories of a "
                "file system that has locks"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Lets another daemon in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
