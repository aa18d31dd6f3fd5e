"""Artifacts as files."""

import asyncio
import os
import sys
import time
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from traitlets import Unicode

from condastore.files import (
    copy_file,
    make_directory,
    move_file,
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

    async def open(self) -> None:
        await asyncio.to_thread(_make_empty, self._unfinished)

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
    def _unfinished(self) -> Path:
        return Path(self.storage_path, ".unfinished")

    def _path(self, key: str) -> Path:
        return Path(self.storage_path, *key_parts(key))


def _make_empty(directory: Path) -> None:
    make_directory(directory)
    for path in directory.iterdir():
        path.unlink()


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
        with suppress(FileExistsError):
            os.link(taken, path)
        taken.unlink()
        return 0
    taken.unlink()
    sync_directory(path.parent)
    return found.st_size


def _delete(path: Path) -> int:
    found = _stat(path)
    if found is None:
        return 0
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    return found.size
