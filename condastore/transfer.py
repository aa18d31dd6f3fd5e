"""Moving everything to another back end while no daemon runs."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Integer, Table, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.builds import ArtifactType
from condastore.database import Database
from condastore.errors import ConfigurationError
from condastore.oci import blob_key
from condastore.storage import Storage
from condastore.tables import Base, Blob, BuildArtifact, Environment

ROWS = 1000
# What is no file of the storage: prefixes, and names of images.
_NOT_STORED = (
    ArtifactType.DIRECTORY,
    ArtifactType.DOCKER_MANIFEST,
    ArtifactType.CONTAINER_REGISTRY,
    ArtifactType.DOCKER_BLOB,
)


async def copy_database(source: Database, target: Database) -> dict[str, int]:
    """Copies all rows into a database that has none, in one transaction.

    Returns how many rows each table has. Raises `ConfigurationError` if the target has rows.
    """
    counts: dict[str, int] = {}
    async with source.read() as reading, target.write() as writing:
        for table in Base.metadata.sorted_tables:
            if await writing.scalar(select(func.count()).select_from(table)):
                raise ConfigurationError(
                    f"the database to copy to has rows already, in the table {table.name}: "
                    "name an empty one"
                )
        # Environments and builds refer to each other; the environments' reference comes last.
        current: list[dict[str, Any]] = []
        for table in Base.metadata.sorted_tables:
            counts[table.name] = 0
            async for rows in _rows(reading, table):
                if table is Environment.__table__:
                    current += [
                        {"id": row["id"], "current_build_id": row["current_build_id"]}
                        for row in rows
                        if row["current_build_id"] is not None
                    ]
                    rows = [{**row, "current_build_id": None} for row in rows]
                await writing.execute(insert(table), rows)
                counts[table.name] += len(rows)
        if current:
            await writing.execute(update(Environment), current)
        if not target.is_sqlite:
            for table in Base.metadata.sorted_tables:
                await _set_sequence(writing, table)
    return counts


async def _rows(session: AsyncSession, table: Table) -> AsyncIterator[list[dict[str, Any]]]:
    result = await session.stream(select(table))
    async for some in result.mappings().partitions(ROWS):
        yield [{name: _storable(value) for name, value in row.items()} for row in some]


def _storable(value: Any) -> Any:
    """Returns a value as PostgreSQL takes it: its texts have no NUL."""
    return value.replace("\x00", "") if isinstance(value, str) else value


async def _set_sequence(session: AsyncSession, table: Table) -> None:
    """Lets the ids of new rows begin behind those that were copied."""
    column = table.autoincrement_column
    if column is None or not isinstance(column.type, Integer):
        return
    await session.execute(
        text(
            f"SELECT setval(pg_get_serial_sequence('{table.name}', '{column.name}'), "
            f"(SELECT max({column.name}) FROM {table.name})) "
            f"WHERE EXISTS (SELECT 1 FROM {table.name})"
        )
    )


async def copy_storage(
    database: Database, source: Storage, target: Storage, scratch: Path
) -> tuple[int, int]:
    """Copies every artifact that the database knows; what is there already is not copied again.

    Returns how many were copied, and how many are missing in the source. Each passes through a
    file in `scratch`, so that memory does not depend on its size.
    """
    copied = missing = 0
    for key in await _stored_keys(database):
        size = await source.size(key)
        if size is None:
            missing += 1
        elif await target.size(key) != size:
            await _copy(source, target, key, scratch / uuid.uuid4().hex)
            if await target.size(key) != size:
                raise ConfigurationError(
                    f"{key} is of another size where it was copied to; copy again"
                )
            copied += 1
    return copied, missing


async def _copy(source: Storage, target: Storage, key: str, path: Path) -> None:
    try:
        file = await asyncio.to_thread(path.open, "wb")
        try:
            # Both back ends' pieces are what an async generator yields.
            async with aclosing(cast(Any, source.read(key))) as pieces:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
        finally:
            await asyncio.to_thread(file.close)
        await target.move_file(key, path)
    finally:
        await asyncio.to_thread(path.unlink, missing_ok=True)


async def _stored_keys(database: Database) -> list[str]:
    async with database.read() as session:
        artifacts = select(BuildArtifact.key).where(BuildArtifact.artifact_type.not_in(_NOT_STORED))
        keys = set(await session.scalars(artifacts))
        keys |= {blob_key(digest) for digest in await session.scalars(select(Blob.digest))}
    return sorted(keys)
