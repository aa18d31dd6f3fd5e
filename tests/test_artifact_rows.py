"""The tasks that make artifacts: one at most for each form of a build."""

import pytest

from condastore.artifact_rows import artifact_tasks, cancel_artifacts, queue_artifacts
from condastore.build_rows import find_build
from condastore.builds import ArtifactType
from condastore.database import Database
from condastore.tables import Task, TaskState
from condastore.tasks import TaskQueue
from tests.rows import add_build

WANTED = [ArtifactType.LOCKFILE, ArtifactType.CONDA_PACK, ArtifactType.DOCKER_MANIFEST]


@pytest.fixture
async def build_id(database: Database) -> int:
    build_id = await add_build(database)
    await queue(database, build_id)
    return build_id


async def queue(database: Database, build_id: int) -> None:
    async with database.write() as session:
        await queue_artifacts(session, await find_build(session, build_id), WANTED)


async def kinds(database: Database, build_id: int) -> list[str]:
    async with database.read() as session:
        return sorted(task.kind for task in await artifact_tasks(session, [build_id]))


async def test_what_the_build_itself_makes_needs_no_task(database: Database, build_id: int) -> None:
    assert await kinds(database, build_id) == ["archive", "image"]


async def test_what_is_under_way_is_not_queued_again(database: Database, build_id: int) -> None:
    claim = await TaskQueue(database, "me").claim(["archive"])
    assert claim is not None
    await queue(database, build_id)
    assert await kinds(database, build_id) == ["archive", "image"]
    await TaskQueue(database, "me").finish(claim.id, TaskState.DONE)
    await queue(database, build_id)
    assert await kinds(database, build_id) == ["archive", "image"]


async def test_what_waits_is_cancelled_at_once_and_what_runs_is_told(
    database: Database, build_id: int
) -> None:
    claim = await TaskQueue(database, "me").claim(["image"])
    assert claim is not None
    async with database.write() as session:
        assert await cancel_artifacts(session, [build_id], ["archive"]) == []
        assert await cancel_artifacts(session, [build_id]) == [claim.id]
    assert await kinds(database, build_id) == ["image"]
    async with database.read() as session:
        task = await session.get(Task, claim.id)
        assert task is not None
        assert task.cancel_requested
