"""Rows of the tasks that make artifacts: one at most, for each form of a build, waits or runs."""

from collections.abc import Collection, Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.builds import ARTIFACT_TASKS, ArtifactType
from condastore.tables import Build, Task, TaskState, utcnow
from condastore.tasks import enqueue

UNDER_WAY = (TaskState.QUEUED, TaskState.RUNNING)


async def queue_artifacts(
    session: AsyncSession, build: Build, artifacts: Iterable[ArtifactType]
) -> None:
    """Adds the tasks that make some artifacts of a build, unless they are under way already."""
    kinds = {ARTIFACT_TASKS[artifact] for artifact in artifacts if artifact in ARTIFACT_TASKS}
    under_way = {task.kind for task in await artifact_tasks(session, [build.id], kinds)}
    for kind in sorted(kinds - under_way):
        enqueue(session, kind, build.environment.namespace.name, build_id=build.id)


async def artifact_tasks(
    session: AsyncSession,
    build_ids: Collection[int],
    kinds: Collection[str] = tuple(ARTIFACT_TASKS.values()),
) -> list[Task]:
    """Returns the tasks that wait or run to make artifacts of builds."""
    query = select(Task).where(
        Task.kind.in_(kinds), Task.build_id.in_(build_ids), Task.state.in_(UNDER_WAY)
    )
    return list(await session.scalars(query))


async def cancel_artifacts(
    session: AsyncSession,
    build_ids: Collection[int],
    kinds: Collection[str] = tuple(ARTIFACT_TASKS.values()),
) -> list[int]:
    """Cancels the making of artifacts; returns the tasks that run, which the pool is to stop."""
    running = []
    for task in await artifact_tasks(session, build_ids, kinds):
        task.cancel_requested = True
        if task.state == TaskState.RUNNING:
            running.append(task.id)
        else:
            task.state, task.ended_on = TaskState.CANCELED, utcnow()
    return running
