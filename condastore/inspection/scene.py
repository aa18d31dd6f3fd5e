"""What is inspected: the database, the disk and the storage of a daemon that does not run."""

import asyncio
import errno
import os
import uuid
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import select

from condastore.build_rows import find_build
from condastore.builds import build_id_of
from condastore.database import Database
from condastore.errors import CondaStoreError
from condastore.files import make_directory, sync_directory
from condastore.prefixes import Store
from condastore.storage import Storage
from condastore.tables import Build


@dataclass(frozen=True)
class Scene:
    """The parts that must say the same."""

    database: Database
    store: Store
    storage: Storage
    data: Path
    """The daemon's data directory."""
    unfinished: Path | None
    """Where the storage writes on this machine, if it does."""
    unknown_blob_grace_s: float
    """So old a file of a blob may become before it needs a row."""
    directory: str
    """The `DirectoryLock.identity` of the data directory, with which its daemons' names begin."""

    @property
    def lost(self) -> Path:
        """Where prefixes go that no row knows: nobody can tell whether they are still wanted."""
        return self.store.root / ".lost"

    def put_away(self, path: Path) -> None:
        """Moves a directory to `lost`; one that is on another file system, to a `.lost` beside it.

        Nothing looks for prefixes where a name begins with a dot.
        """
        try:
            _move(path, self.lost / f"{path.parent.name}-{path.name}")
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _move(path, path.parent / self.lost.name / path.name)

    def discard(self, path: Path) -> None:
        """Moves what is of no use to the trash, which is emptied afterwards."""
        _move(path, self.store.trash / uuid.uuid4().hex)

    def lost_file(self, name: str) -> Path:
        """Returns where a file goes that nobody knows, beside those that went before it."""
        return _free(self.data / "lost" / name)

    async def put_stored_away(self, key: str) -> None:
        """Takes what no row knows out of the storage, into a file below `lost` in the data."""
        target = self.lost_file(key.replace("/", "-"))
        await asyncio.to_thread(make_directory, target.parent)
        with target.open("xb") as file:
            async with aclosing(cast(Any, self.storage.read(key))) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(sync_directory, target.parent)
        await self.storage.delete(key)


async def build_named(scene: Scene, key: str) -> Build | None:
    """Returns the build with this key, if there is one."""
    try:
        build_id = build_id_of(key)
        async with scene.database.read() as session:
            by_hash = select(Build.id).where(Build.hash == key)
            return await find_build(session, build_id or await session.scalar(by_hash) or 0)
    except CondaStoreError:
        return None


def _move(path: Path, target: Path) -> None:
    make_directory(target.parent)
    os.rename(path, _free(target))
    sync_directory(path.parent)


def _free(target: Path) -> Path:
    """Returns a path that nothing has yet."""
    if os.path.lexists(target):
        return target.with_name(f"{target.name}-{uuid.uuid4().hex[:8]}")
    return target
