"""Environments' links, which several daemons on one store switch at once."""

import asyncio
import os
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.build_rows import find_build
from condastore.builders.links import Links
from condastore.builds import ArtifactType, BuildStatus
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.hooks import Hooks
from condastore.prefixes import Store
from condastore.tables import Build, BuildArtifact, Environment, utcnow
from tests.patience import PATIENCE_S
from tests.rows import add_build

BUILDS = 30


async def add_whole_build(database: Database, directory: Path, *, current: bool = False) -> Build:
    """Adds a build whose prefix, named by its number, is there."""
    build_id = await add_build(database, status=BuildStatus.COMPLETED, current=current)
    prefix = directory / str(build_id)
    prefix.mkdir()
    async with database.write() as session:
        session.add(
            BuildArtifact(build_id=build_id, artifact_type=ArtifactType.DIRECTORY, key=str(prefix))
        )
        return await find_build(session, build_id)


async def test_a_link_never_goes_back_however_many_switch_it(
    database: Database, tmp_path: Path
) -> None:
    config = CondaStore(data_directory=str(tmp_path))
    store = Store.of(config)
    store.make()
    daemons = [Links(database, store, Hooks(config, 10)) for _ in range(3)]
    link = store.environment_link("default", "env")
    seen: list[int] = []

    async def publish(number: int) -> None:
        build = await add_whole_build(database, tmp_path)
        async with database.write() as session:
            environment = await session.get(
                Environment, build.environment_id, with_for_update={"of": Environment}
            )
            assert environment is not None
            environment.current_build_id = max(environment.current_build_id or 0, build.id)
        await daemons[number % len(daemons)].follow(build.environment_id)

    async def watch() -> None:
        while True:
            if link.is_symlink():
                seen.append(int(Path(os.readlink(link)).name))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await publish(0)
    async with asyncio.TaskGroup() as group:
        for number in range(1, BUILDS):
            group.create_task(publish(number))
    watching.cancel()
    assert seen == sorted(seen)
    assert int(Path(os.readlink(link)).name) == BUILDS


async def test_a_deletion_while_it_is_decided_takes_no_link_away(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CondaStore(data_directory=str(tmp_path))
    store = Store.of(config)
    links = Links(database, store, Hooks(config, 10))
    older = await add_whole_build(database, tmp_path)
    newer = await add_whole_build(database, tmp_path, current=True)
    questions = 0

    async def deleted_before(session: AsyncSession, build_id: int) -> Build:
        """Somebody deletes the current build when the last decision knows which that is."""
        nonlocal questions
        questions += 1
        if questions == 2:
            async with database.write() as other:
                (await find_build(other, newer.id)).deleted_on = utcnow()
                environment = await other.get_one(Environment, newer.environment_id)
                environment.current_build_id = older.id
        return await find_build(session, build_id)

    link = store.environment_link("default", "env")
    await links.follow(newer.environment_id)
    monkeypatch.setattr("condastore.builders.links.find_build", deleted_before)
    async with asyncio.timeout(PATIENCE_S):
        await links.follow(newer.environment_id)
    assert questions == 2
    assert os.readlink(link) == str(tmp_path / str(newer.id))
    await links.follow(newer.environment_id)
    assert os.readlink(link) == str(tmp_path / str(older.id))
