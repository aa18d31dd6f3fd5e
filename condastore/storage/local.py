"""Artifacts as files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from traitlets import Unicode

from condastore.files import (
    copy_file,
    fitting,
    make_directory,
    move_file,
    sync_directory,
    write_file,
)
from condastore.storage.base import Storage

READ_BYTES = 256 * 1024


class LocalStorage(Storage):
    """Keeps artifacts in a directory."""

    storage_path = Unicode(
        help="Directory of the artifacts. Default: `{CondaStore.data_directory}/storage`.",
    ).tag(config=True)

    async def open(self) -> None:
        await asyncio.to_thread(_make_empty, self._unfinished)

    async def put_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(copy_file, path, self._path(key), made_in=self._unfinished)

    async def move_file(self, key: str, path: Path) -> None:
        await asyncio.to_thread(move_file, path, self._path(key), made_in=self._unfinished)

    async def put_bytes(self, key: str, data: bytes) -> None:
        await asyncio.to_thread(write_file, self._path(key), data, made_in=self._unfinished)

    async def size(self, key: str) -> int | None:
        return await asyncio.to_thread(_size, self._path(key))

    async def read(self, key: str, offset: int = 0) -> AsyncIterator[bytes]:
        file = await asyncio.to_thread(self._path(key).open, "rb")
        try:
            await asyncio.to_thread(file.seek, offset)
            while data := await asyncio.to_thread(file.read, READ_BYTES):
                yield data
        finally:
            file.close()

    async def delete(self, key: str) -> int:
        return await asyncio.to_thread(_delete, self._path(key))

    @property
    def _unfinished(self) -> Path:
        return Path(self.storage_path, ".unfinished")

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or any(part in (".", "..") for part in parts):
            raise ValueError(f"not a storage key: {key!r}")
        return Path(self.storage_path, *map(fitting, parts))


def _make_empty(directory: Path) -> None:
    make_directory(directory)
    for path in directory.iterdir():
        path.unlink()


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _delete(path: Path) -> int:
    size = _size(path)
    if size is None:
        return 0
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    return size
