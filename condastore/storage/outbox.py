"""What a remote storage is still to be told, kept on the disk while it is away.

So a build ends as always, whatever becomes of S3: what it stored can be read here at once, and is
sent when the storage is back, also by the next daemon on this data directory.
"""

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from condastore.files import (
    PRIVATE,
    copy_file,
    make_directory,
    move_file,
    sync_directory,
    write_file,
)
from condastore.storage.base import Storage, Stored
from condastore.storage.local import LocalStorage

logger = logging.getLogger(__name__)

# A build doesn't wait longer for its lockfile to be stored.
PATIENCE_S = 10.0
RETRY_S = (1.0, 60.0)


@dataclass(frozen=True, eq=False)
class _Entry:
    """What is to be done with a key: its file stored, or, without one, what is stored removed."""

    file: Path | None
    since: float = field(default_factory=time.time)


class Outbox(Storage):
    """A remote storage that takes everything at any time."""

    is_remote = True

    def __init__(self, remote: Storage, directory: Path) -> None:
        super().__init__()
        self._remote = remote
        self._directory = directory
        self._files = LocalStorage(storage_path=str(directory))
        self._waiting: dict[str, _Entry] = {}
        self._turn = asyncio.Lock()
        self._some = asyncio.Event()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def waits(self, key: str) -> bool:
        entry = self._waiting.get(key)
        return entry is not None and entry.file is not None

    async def open(self) -> None:
        await self._remote.open()
        self._waiting = await asyncio.to_thread(_load, self._directory)
        if self._waiting:
            logger.warning("%d files wait to be stored", len(self._waiting))
            self._some.set()

    async def close(self) -> None:
        await self._remote.close()

    async def run(self) -> None:
        """Sends what waits, again and again until the storage has taken it."""
        delay = RETRY_S[0]
        while True:
            await self._some.wait()
            before = len(self._waiting)
            for key in list(self._waiting):
                await self._send(key)
            if not self._waiting:
                self._some.clear()
                delay = RETRY_S[0]
                logger.info("the storage has taken all %d files that waited for it", before)
                continue
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_S[1]) if len(self._waiting) >= before else RETRY_S[0]

    async def put_file(self, key: str, path: Path) -> None:
        if not await self._told(key, lambda: self._remote.put_file(key, path)):
            await self._keep(key, lambda file: copy_file(path, file))

    async def move_file(self, key: str, path: Path) -> None:
        if not await self._told(key, lambda: self._remote.move_file(key, path)):
            await self._keep(key, lambda file: move_file(path, file))

    async def put_bytes(self, key: str, data: bytes) -> None:
        async def put() -> None:
            async with asyncio.timeout(PATIENCE_S):
                await self._remote.put_bytes(key, data)

        if not await self._told(key, put):
            await self._keep(key, lambda file: write_file(file, data))

    async def stat(self, key: str) -> Stored | None:
        entry = self._waiting.get(key)
        if entry is None:
            return await self._remote.stat(key)
        return await self._files.stat(entry.file.name) if entry.file else None

    async def read(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        entry = self._waiting.get(key)
        if entry is not None:
            if entry.file is None:
                raise FileNotFoundError(key)
            # It may be sent at this moment, and its file be gone.
            with suppress(FileNotFoundError):
                waiting = self._files.read(entry.file.name, offset, length)
                async with aclosing(cast(Any, waiting)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
        async for piece in self._remote.read(key, offset, length):
            yield piece

    async def url(self, key: str, *, media_type: str, filename: str | None) -> str | None:
        if key in self._waiting:
            return None
        return await self._remote.url(key, media_type=media_type, filename=filename)

    async def ages(self, folder: str) -> AsyncIterator[tuple[str, float]]:
        async for key, age_s in self._remote.ages(folder):
            if key not in self._waiting:
                yield key, age_s

    async def delete_older(self, key: str, age_s: float) -> int:
        entry = self._waiting.get(key)
        if entry is None:
            return await self._remote.delete_older(key, age_s)
        if entry.file is None or time.time() - entry.since < age_s:
            return 0
        return await self.delete(key)

    async def delete(self, key: str) -> int:
        stored = await self.stat(key) if key in self._waiting else None
        if stored is None and key not in self._waiting:
            try:
                return await self._remote.delete(key)
            except OSError as error:
                logger.warning("%s is removed when the storage is back: %s", key, error)
        await self._keep(key, None)
        return stored.size if stored else 0

    async def _told(self, key: str, tell: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Tells the storage at once, unless something waits already; returns whether it took it."""
        if self._waiting:
            return False
        try:
            await tell()
        except FileNotFoundError:
            raise
        except OSError as error:
            logger.warning("%s waits until the storage is back: %s", key, error or "no answer")
            return False
        return True

    async def _keep(self, key: str, fill: Callable[[Path], object] | None) -> None:
        """Puts what is to be done with a key on the disk, durably, instead of what was before."""
        file, note = self._paths(key)
        async with self._turn:
            await asyncio.to_thread(make_directory, self._directory, PRIVATE)
            if fill is not None:
                await asyncio.to_thread(fill, file)
            text = json.dumps({"key": key, "stored": fill is not None})
            await asyncio.to_thread(write_file, note, text.encode())
            self._waiting[key] = _Entry(file if fill is not None else None)
        self._some.set()

    async def _send(self, key: str) -> None:
        entry = self._waiting[key]
        try:
            if entry.file is not None:
                await self._remote.put_file(key, entry.file)
            else:
                await self._remote.delete(key)
        except OSError as error:
            logger.debug("%s waits: %s", key, error)
            return
        async with self._turn:
            if self._waiting[key] is not entry:
                # It was replaced meanwhile, and has its turn again.
                return
            del self._waiting[key]
            await asyncio.to_thread(_forget, *self._paths(key))

    def _paths(self, key: str) -> tuple[Path, Path]:
        """Returns where a key's bytes are, and the note that says what to do with them."""
        digest = hashlib.sha256(key.encode()).hexdigest()
        return self._directory / f"{digest}.data", self._directory / f"{digest}.json"


def _load(directory: Path) -> dict[str, _Entry]:
    """Returns what waits; removes what a crash left half done."""
    found: dict[str, _Entry] = {}
    if not directory.is_dir():
        return found
    known = set()
    for note in sorted(directory.glob("*.json")):
        said = json.loads(note.read_bytes())
        file = note.with_suffix(".data")
        if said["stored"] and not file.is_file():
            continue
        found[said["key"]] = _Entry(file if said["stored"] else None)
        known |= {note, file} if said["stored"] else {note}
    for path in directory.iterdir():
        if path not in known:
            path.unlink()
    return found


def _forget(file: Path, note: Path) -> None:
    note.unlink(missing_ok=True)
    file.unlink(missing_ok=True)
    sync_directory(note.parent)
