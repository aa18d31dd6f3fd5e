"""Everything in another back end: the same rows, the same bytes, and ids that go on."""

import os
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from condastore.builds import ArtifactType, BuildStatus
from condastore.database import Database
from condastore.errors import ConfigurationError
from condastore.packages import record_packages
from condastore.storage import LocalStorage
from condastore.tables import Base, Blob, Build, BuildArtifact, Namespace
from condastore.tasks import enqueue
from condastore.transfer import copy_database, copy_storage
from devtools.servers import PostgreSQLServer, S3Server
from tests.databases import URLS, fresh, opened
from tests.rows import add_build
from tests.storage.storages import bucket_of

PACKAGE = {
    "channel": "https://example.org/c",
    "name": "x",
    "version": "1",
    "build": "0",
    "build_number": 0,
    "depends": ["y >=2"],
    "constrains": [],
    "md5": "0" * 32,
    "sha256": "1" * 64,
    "size": 2**40,
    "subdir": "noarch",
    "timestamp": 1_700_000_000_000,
}


async def fill(database: Database) -> None:
    """Adds rows whose ids have gaps, and of which some refer to each other both ways."""
    for number in range(3):
        build_id = await add_build(
            database, status=BuildStatus.COMPLETED, namespace=f"n{number}", current=True
        )
        async with database.write() as session:
            await record_packages(session, build_id, [PACKAGE])
            key = f"yaml/{build_id}.yml"
            session.add(BuildArtifact(build_id=build_id, artifact_type=ArtifactType.YAML, key=key))
            enqueue(session, "build", f"n{number}", build_id=build_id, payload={"ü": [1, None]})
    async with database.write() as session:
        await session.execute(insert(Namespace).values(id=4000, name="far", metadata_=None))
        session.add(Blob(digest=f"sha256:{'ab' * 32}", size=7))


async def rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    async with database.read() as session:
        return {
            table.name: [
                dict(row)
                for row in (
                    await session.execute(select(table).order_by(*table.primary_key))
                ).mappings()
            ]
            for table in Base.metadata.sorted_tables
        }


async def test_all_rows_come_to_postgresql_and_ids_go_on(
    tmp_path: Path, postgresql: PostgreSQLServer
) -> None:
    async with (
        opened(URLS["sqlite"](tmp_path)) as source,
        opened(await fresh(postgresql)) as target,
    ):
        await fill(source)
        async with source.write() as session:
            session.add(Namespace(name="null\x00byte"))
        counts = await copy_database(source, target)
        before, after = await rows(source), await rows(target)
        assert counts == {name: len(found) for name, found in before.items()}
        assert sum(counts.values()) > 20
        # PostgreSQL's texts have no NUL.
        assert before["namespace"].pop()["name"] == "null\x00byte"
        assert after["namespace"].pop()["name"] == "nullbyte"
        assert after == before
        async with target.write() as session:
            new = Namespace(name="new")
            session.add(new)
            await session.flush()
            assert new.id == 4002
        build_id = await add_build(target, namespace="n0")
        assert build_id == 4

        with pytest.raises(ConfigurationError, match="has rows already"):
            await copy_database(source, target)
        async with target.read() as session:
            assert len((await session.scalars(select(Build))).all()) == 4


async def test_artifacts_come_to_s3_once(
    database: Database, tmp_path: Path, s3_server: S3Server
) -> None:
    source = LocalStorage(storage_path=str(tmp_path / "storage"))
    target = await bucket_of(s3_server)
    await source.open()
    await target.open()
    await fill(database)
    await source.put_bytes("yaml/1.yml", b"one")
    await source.put_bytes("yaml/2.yml", b"two")
    await source.put_bytes(f"blobs/sha256/ab/{'ab' * 32}", b"a layer")
    # A copy that was broken off left one of another size.
    await target.put_bytes("yaml/2.yml", b"t")
    assert await copy_storage(database, source, target, tmp_path) == (3, 1)
    assert await copy_storage(database, source, target, tmp_path) == (0, 1)
    await source.put_bytes("yaml/3.yml", b"three")
    assert await copy_storage(database, source, target, tmp_path) == (1, 0)
    found = [piece async for piece in target.read("yaml/2.yml")]
    assert b"".join(found) == b"two"
    assert await source.size("yaml/1.yml") == 3
    back = LocalStorage(storage_path=str(tmp_path / "back"))
    assert await copy_storage(database, target, back, tmp_path) == (4, 0)
    await target.close()
    assert [name for name in os.listdir(tmp_path) if len(name) == 32] == []
