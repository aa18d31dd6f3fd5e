"""The files of databases: the truth itself, and the index that can be made again."""

import sqlite3
from asyncio import to_thread
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

from sqlalchemy import select

from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene
from condastore.tables import Build, Specification


async def inspect_databases(scene: Scene) -> AsyncIterator[Finding]:
    """Yields what SQLite says of its files, and builds that nobody can build again."""
    for sentence in await scene.database.check():
        yield Finding("damaged database", sentence, "restore the database from a backup")
    orphans = select(Build.id).where(Build.specification_id.not_in(select(Specification.id)))
    async with scene.database.read() as session:
        for build_id in (await session.scalars(orphans)).all():
            yield Finding(
                "build without a specification",
                f"build {build_id}",
                "delete the build, or restore the database from a backup",
            )
    index = scene.data / "index" / "packages.sqlite"
    if await to_thread(index.is_file) and not await to_thread(_is_sound, index):
        yield Finding(
            "damaged package index",
            str(index),
            "removed; the daemon makes it again",
            partial(to_thread, index.unlink, missing_ok=True),
        )


def _is_sound(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
            return bool(connection.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.Error:
        return False
