"""What a crash leaves, and what the next daemon makes of it before its port opens."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from condastore.build_rows import find_build, log_key, prefix_of
from condastore.builders.links import Links
from condastore.builds import ArtifactType, BuildStatus
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.hooks import Hooks
from condastore.pool import Pool, Run, Stop, Work
from condastore.prefixes import Store
from condastore.recovery import follow_a_database_that_lost_changes, recover
from condastore.storage import LocalStorage
from condastore.streams import LogHub
from condastore.tables import Build, BuildArtifact, Environment, Task, TaskState
from condastore.tally import Tally
from condastore.tasks import SWITCH, Claim, TaskQueue, enqueue
from tests.rows import add_build


class Scene:
    """A state directory, as a daemon that died left it."""

    def __init__(self, database: Database, directory: Path) -> None:
        self.database = database
        self.store = Store.of(CondaStore(data_directory=str(directory)))
        self.store.make()
        self.storage = LocalStorage(storage_path=str(directory / "storage"))
        self.logs = LogHub(directory / "logs", self.storage, 10_000)
        self.abandoned: list[tuple[int | None, Stop | str]] = []

    async def recover(self, owner: str = "next") -> None:
        async def run(_: Run) -> None: ...

        async def abandon(claim: Claim, why: Stop | str) -> None:
            self.abandoned.append((claim.build_id, why))

        queue = TaskQueue(self.database, f"here-{owner}", directory="here")
        pool = Pool(queue, {"build": Work(run, abandon, "builds")}, {"builds": 1})
        await recover(self.database, pool, self.store, self.storage, self.logs, alone=True)

    async def build(self, build_id: int) -> Build:
        async with self.database.read() as session:
            return await find_build(session, build_id)

    async def make_prefix(self, build_id: int) -> Path:
        prefix = prefix_of(self.store, await self.build(build_id))
        (prefix / "bin").mkdir(parents=True)
        return prefix

    async def complete(self, build_id: int) -> Path:
        """What a build has recorded when it is done."""
        prefix = await self.make_prefix(build_id)
        async with self.database.write() as session:
            key = str(prefix)
            session.add(
                BuildArtifact(build_id=build_id, artifact_type=ArtifactType.DIRECTORY, key=key)
            )
        return prefix

    async def claim(self, build_id: int) -> None:
        """The task of a build that runs in the daemon that dies."""
        async with self.database.write() as session:
            enqueue(session, "build", "default", build_id=build_id)
        assert await TaskQueue(self.database, "here-dead").claim(["build"])


@pytest.fixture
def scene(database: Database, tmp_path: Path) -> Iterator[Scene]:
    found = Scene(database, tmp_path / "data")
    yield found
    found.logs.close()


async def tidy_tasks(scene: Scene) -> int:
    async with scene.database.read() as session:
        query = select(func.count()).where(Task.kind == "tidy")
        return await session.scalar(query) or 0


async def test_a_fresh_directory_needs_nothing(scene: Scene) -> None:
    await scene.recover()
    assert await tidy_tasks(scene) == 0
    assert scene.abandoned == []


async def test_a_build_that_ran_waits_again_and_its_prefix_is_gone(scene: Scene) -> None:
    build_id = await add_build(scene.database, status=BuildStatus.BUILDING)
    await scene.claim(build_id)
    prefix = await scene.make_prefix(build_id)

    await scene.recover()

    build = await scene.build(build_id)
    assert (build.status, build.started_on) == (BuildStatus.QUEUED, None)
    assert not prefix.exists()
    assert len(os.listdir(scene.store.trash)) == 1
    async with scene.database.read() as session:
        [task] = await session.scalars(select(Task).where(Task.kind == "build"))
    assert task.state == TaskState.QUEUED
    # And once more, as after a crash in the recovery.
    await scene.recover("third")
    assert (await scene.build(build_id)).status == BuildStatus.QUEUED
    assert await tidy_tasks(scene) == 1


async def test_builds_that_ended_are_left_as_they_are(scene: Scene) -> None:
    ids = {
        status: await add_build(scene.database, status=status, name=status.lower())
        for status in (BuildStatus.COMPLETED, BuildStatus.FAILED, BuildStatus.CANCELED)
    }
    prefixes = [await scene.complete(build_id) for build_id in ids.values()]
    await scene.recover()
    for status, build_id in ids.items():
        assert (await scene.build(build_id)).status == status
    assert all(prefix.is_dir() for prefix in prefixes)


async def test_a_build_that_was_recorded_is_complete(scene: Scene) -> None:
    """It had passed its point of no return; only its status was missing."""
    build_id = await add_build(scene.database, status=BuildStatus.BUILDING, current=True)
    await scene.claim(build_id)
    prefix = await scene.complete(build_id)
    await scene.recover()
    assert (await scene.build(build_id)).status == BuildStatus.COMPLETED
    assert prefix.is_dir()
    assert os.readlink(scene.store.environment_link("default", "env")) == str(prefix)


async def test_what_was_cancelled_before_the_crash_is_settled(scene: Scene) -> None:
    build_id = await add_build(scene.database, status=BuildStatus.BUILDING)
    await scene.claim(build_id)
    async with scene.database.write() as session:
        await session.execute(update(Task).values(cancel_requested=True))
    await scene.recover()
    assert scene.abandoned == [(build_id, Stop.CANCELED)]


async def test_a_switch_that_a_crash_prevented_is_done(scene: Scene) -> None:
    old = await add_build(scene.database, status=BuildStatus.COMPLETED)
    new = await add_build(scene.database, status=BuildStatus.COMPLETED, current=True)
    link = scene.store.environment_link("default", "env")
    scene.store.publish(link, await scene.complete(old))
    prefix = await scene.complete(new)
    await scene.recover()
    assert os.readlink(link) == str(prefix)


@pytest.mark.parametrize("why", ["failed", "deleted build", "deleted environment", "version 3"])
async def test_no_link_is_made_to_what_must_not_have_one(scene: Scene, why: str) -> None:
    build_id = await add_build(
        scene.database,
        status=BuildStatus.FAILED if why == "failed" else BuildStatus.COMPLETED,
        key_version=3 if why == "version 3" else 2,
        current=True,
    )
    await scene.complete(build_id)
    async with scene.database.write() as session:
        if why == "deleted build":
            await session.execute(update(Build).values(deleted_on=func.now()))
        if why == "deleted environment":
            await session.execute(update(Environment).values(deleted_on=func.now()))
    await scene.recover()
    assert not scene.store.environment_link("default", "env").is_symlink()


async def test_one_link_that_can_not_be_switched_does_not_hold_up_the_others(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("blocked", "gone", "good"):
        build_id = await add_build(
            scene.database, status=BuildStatus.COMPLETED, name=name, current=True
        )
        prefix = await scene.complete(build_id)
        if name == "gone":
            prefix.joinpath("bin").rmdir()
            prefix.rmdir()
    scene.store.environment_link("default", "blocked").mkdir(parents=True)
    with caplog.at_level(logging.ERROR):
        await scene.recover()
    assert scene.store.environment_link("default", "good").is_symlink()
    assert not scene.store.environment_link("default", "gone").is_symlink()
    assert "blocked can't be switched" in caplog.text
    assert "gone; the environment gone can't be used" in caplog.text


async def test_one_link_that_can_not_be_corrected_does_not_hold_up_the_others(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """When the database has become older than it was."""
    for name in ("blocked", "good"):
        build_id = await add_build(
            scene.database, status=BuildStatus.COMPLETED, name=name, current=True
        )
        await scene.complete(build_id)
    scene.store.environment_link("default", "blocked").mkdir(parents=True)
    tally = Tally(scene.database, tmp_path / "tally")
    await tally.keep(5)
    links = Links(scene.database, scene.store, Hooks(CondaStore(), 10))
    await follow_a_database_that_lost_changes(scene.database, tally, links)
    assert scene.store.environment_link("default", "good").is_symlink()
    assert "the link of environment 1 can't be switched" in caplog.text
    async with scene.database.read() as session:
        [task] = await session.scalars(select(Task))
    assert task.kind == SWITCH
    assert await tally.lost() == 0


async def test_what_dead_children_left_goes_to_the_trash(scene: Scene) -> None:
    for directory in (scene.store.scratch, scene.store.packages / "work"):
        (directory / "tmp" / "deep").mkdir(parents=True)
        (directory / "file").write_text("")
    (scene.store.packages / "kept").mkdir()
    await scene.recover()
    assert os.listdir(scene.store.scratch) == []
    assert os.listdir(scene.store.packages / "work") == []
    assert (scene.store.packages / "kept").is_dir()
    assert len(os.listdir(scene.store.trash)) == 4
    assert await tidy_tasks(scene) == 1


async def test_logs_of_builds_that_ended_are_stored_and_others_wait(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    ended = await add_build(scene.database, status=BuildStatus.FAILED)
    waits = await add_build(scene.database, status=BuildStatus.QUEUED)
    keys = {build_id: log_key(await scene.build(build_id)) for build_id in (ended, waits)}
    for key in keys.values():
        path = scene.logs._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text\n")
    (path.parent / "junk.log").write_text("")
    (path.parent / "0e4b7b86-1795391714-999-gone.log").write_text("")
    with caplog.at_level(logging.WARNING):
        await scene.recover()
    assert await scene.storage.size(keys[ended]) == 5
    assert await scene.storage.size(keys[waits]) is None
    left = {"junk.log", "0e4b7b86-1795391714-999-gone.log", Path(keys[waits]).name}
    assert set(scene.logs.unstored()) == left
    assert caplog.text.count("belongs to no build") == 2


async def test_the_log_of_a_build_with_a_hash_for_a_key_is_found(scene: Scene) -> None:
    build_id = await add_build(scene.database, status=BuildStatus.FAILED, key_version=3)
    async with scene.database.write() as session:
        await session.execute(update(Build).values(hash="f" * 32))
    key = log_key(await scene.build(build_id))
    path = scene.logs._path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text\n")
    await scene.recover()
    assert await scene.storage.size(key) == 5


async def test_a_store_that_moved_to_a_longer_path_does_not_keep_the_daemon_from_starting(
    scene: Scene, tmp_path: Path
) -> None:
    await add_build(scene.database, status=BuildStatus.BUILDING)
    scene.store = Store.of(CondaStore(store_directory=str(tmp_path / ("x" * 200))))
    scene.store.make()
    await scene.recover()
