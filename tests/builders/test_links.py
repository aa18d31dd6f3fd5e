"""Environments' links, which several daemons on one store switch at once."""

import asyncio
import os
from pathlib import Path

from condastore.builders.links import Links
from condastore.builds import ArtifactType, BuildStatus
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.hooks import Hooks
from condastore.prefixes import Store
from condastore.tables import Build, BuildArtifact, Environment
from tests.rows import add_build

BUILDS = 30


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
        build_id = await add_build(database, status=BuildStatus.COMPLETED)
        prefix = tmp_path / str(build_id)
        prefix.mkdir()
        async with database.write() as session:
            build = await session.get(Build, build_id)
            assert build is not None
            session.add(
                BuildArtifact(
                    build_id=build_id,
                    artifact_type=ArtifactType.DIRECTORY,
                    key=str(prefix),
                )
            )
            environment = await session.get(
                Environment, build.environment_id, with_for_update={"of": Environment}
            )
            assert environment is not None
            environment.current_build_id = max(environment.current_build_id or 0, build_id)
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
