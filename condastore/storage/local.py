"""Artifacts as files."""

import asyncio
import fcntl
import os
import shutil
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from traitlets import Unicode

from condastore.errors import unusable
from condastore.files import (
    PRIVATE,
    copy_file,
    make_directory,
    move_file,
    open_lock,
    sync_directory,
    write_file,
)
from condastore.storage.base import Storage, Stored, key_parts

# A piece costs a visit to a thread, so one reader gets large ones. Many get small ones: what they
# send holds up the event loop, and memory.
MOST_BYTES, LEAST_BYTES = 1024 * 1024, 256 * 1024
# More at once would send no faster, and keep requests of the API waiting for their turn.
_READING = ThreadPoolExecutor(2, "storage reads")


class LocalStorage(Storage):
    """Keeps artifacts in a directory."""

    storage_path = Unicode(
        help="Directory of the artifacts. Default: `{CondaStore.data_directory}/storage`.",
    ).tag(config=True)

    _readers = 0
    _own: "_OwnDirectory | None" = None

    async def open(self) -> None:
        try:
            self._own = await asyncio.to_thread(_OwnDirectory, self._all_unfinished)
        except OSError as error:
            raise unusable(
                error.filename or self.storage_path,
                error,
                "set c.LocalStorage.storage_path to a directory that this user may write to, on a "
                "file system that has locks",
            ) from error

    async def close(self) -> None:
        if self._own is not None:
            await asyncio.to_thread(self._own.remove)
            self._own = None

    async def put_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(copy_file, path, self._path(key), made_in=self._unfinished)

    async def move_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(move_file, path, self._path(key), made_in=self._unfinished)

    async def put_bytes(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(write_file, self._path(key), data, made_in=self._unfinished)

    async def stat(self, key: str) -> Stored | None:
        return await asyncio.to_thread(_stat, self._path(key))

    async def read(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._path(key).open, "rb", buffering=0)
        self._readers += 1
        try:
            await asyncio.to_thread(file.seek, offset)
            left = sys.maxsize if length is None else length
            loop = asyncio.get_running_loop()
            while data := await loop.run_in_executor(
                _READING, file.read, min(left, self._piece_bytes)
            ):
                left -= len(data)
                yield data
        finally:
            self._readers -= 1
            file.close()

    async def ages(self, folder: str) -> AsyncIterator[tuple[str, float]]:
        root = self._path(folder)
        directories = [root]
        while directories:
            directory = directories.pop()
            below, files = await asyncio.to_thread(_listed, directory)
            directories += below
            for path, age_s in files:
                yield path.relative_to(self.storage_path).as_posix(), age_s

    async def delete_older(self, key: str, age_s: float) -> int:
        return await asyncio.to_thread(_delete_older, self._path(key), self._unfinished, age_s)

    async def delete(self, key: str) -> int:
        return await asyncio.to_thread(_delete, self._path(key))

    @property
    def _piece_bytes(self) -> int:
        return max(MOST_BYTES // self._readers, LEAST_BYTES)

    @property
    def _all_unfinished(self) -> Path:
        return Path(self.storage_path, ".unfinished")

    @property
    def _unfinished(self) -> Path:
        return self._all_unfinished if self._own is None else self._own.path

    def _path(self, key: str) -> Path:
        return Path(self.storage_path, *key_parts(key))


class _OwnDirectory:
    """Where one process makes its files, which others leave alone for as long as it lives.

    Several daemons may share a storage. Whose lock is free has died.
    """

    def __init__(self, parent: Path) -> None:
        make_directory(parent, PRIVATE)
        with _locked(parent / "lock"):
            for path in parent.iterdir():
                if path.is_dir():
                    _remove_if_left(path)
                elif path.name != "lock":
                    path.unlink(missing_ok=True)
            self.path = parent / uuid.uuid4().hex
            self.path.mkdir()
            self._lock = _lock(self.path / "lock")

    def remove(self) -> None:
        """Removes it, whatever is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _remove_if_left(directory: Path) -> None:
    with suppress(BlockingIOError, FileNotFoundError), _locked(directory / "lock", wait=False):
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    fd = _lock(path, wait=wait)
    try:
        yield
    finally:
        os.close(fd)


def _lock(path: Path, *, wait: bool = True) -> int:
    """Returns a descriptor that has a file locked until it is closed, by death if need be.

    Raises `BlockingIOError` if it is locked already and shall not be waited for.
    """
    fd = open_lock(path)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(fd)
        raise
    return fd


def _stat(path: Path) -> Stored | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Stored(found.st_size, f"{found.st_mtime_ns:x}-{found.st_ino:x}-{found.st_size:x}")


def _listed(directory: Path) -> tuple[list[Path], list[tuple[Path, float]]]:
    """Returns the directories in a directory, and the files with their ages."""
    below, files, now = [], [], time.time()
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return [], []
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            below.append(Path(entry.path))
        else:
            with suppress(FileNotFoundError):
                files.append((Path(entry.path), now - entry.stat().st_mtime))
    return below, files


def _delete_older(path: Path, aside: Path, age_s: float) -> int:
    """Looks at a file that nobody can replace any more; one that is too young goes back."""
    taken = aside / uuid.uuid4().hex
    make_directory(aside)
    try:
        os.rename(path, taken)
    except FileNotFoundError:
        return 0
    found = taken.stat()
    if time.time() - found.st_mtime < age_s:
        _put_back(taken, path)
        return 0
    taken.unlink()
    sync_directory(path.parent)
    return found.st_size


def _put_back(taken: Path, path: Path) -> None:
    """Gives a file its name again, unless there is a newer one."""
    try:
        os.link(taken, path)
    except FileExistsError:
        pass
    except OSError:
        # Where there are no hard links (F27). Nobody writes other bytes under the key of a blob.
        os.rename(taken, path)
    taken.unlink(missing_ok=True)


def _delete(path: Path) -> int:
    found = _stat(path)
    if found is None:
        return 0
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    return found.size
