"""A build in its other forms: archive, installer, image; each made, followed and removed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.access import Caller
from condastore.artifact_rows import UNDER_WAY, cancel_artifacts, queue_artifacts
from condastore.audit import Action, record
from condastore.build_rows import arn, find_build, recorded_prefix
from condastore.builds import ARTIFACT_TASKS, ArtifactType
from condastore.errors import InvalidInput
from condastore.image_rows import drop_images
from condastore.pool import Stop
from condastore.service.parts import Parts
from condastore.service.space import check_action
from condastore.tables import Build, BuildArtifact, Task, TaskState, utcnow
from condastore.tasks import enqueue_once


class ArtifactState(StrEnum):
    """Where one form of a build is."""

    ABSENT = "ABSENT"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELED = "CANCELED"


@dataclass(frozen=True)
class Artifact:
    """One form of a build: whether it is there, and how its last making went."""

    artifact_type: ArtifactType
    state: ArtifactState
    size: int | None
    """Bytes, where it is one file."""
    is_pending: bool
    """Whether that file waits on this machine's disk until the storage takes it."""
    progress: dict[str, Any] | None
    error: str | None


async def list_artifacts(parts: Parts, caller: Caller, build_id: int) -> Sequence[Artifact]:
    """Returns every form that a build has or can have."""
    async with parts.database.read() as session:
        build = await find_build(session, build_id)
        caller.require("environment::read", arn(build))
        tasks = await _last_tasks(session, build.id)
    stored = {row.artifact_type: row.key for row in build.build_artifacts}
    shown = [ArtifactType.LOGS, ArtifactType.LOCKFILE, ArtifactType.YAML, *ARTIFACT_TASKS]
    return [await _artifact(parts, build, artifact, stored, tasks) for artifact in shown]


async def make_artifact(
    parts: Parts, caller: Caller, build_id: int, artifact: ArtifactType
) -> None:
    """Queues the making of a form of a build, unless it is there or under way.

    Who may read an environment may have it in every form.
    """
    async with parts.database.read() as session:
        build = await find_build(session, build_id)
    caller.require("environment::read", arn(build))
    _check_makeable(artifact)
    await check_action(parts, build.environment.namespace.name, "artifact:create")
    async with parts.database.write() as session:
        build = await find_build(session, build_id)
        if recorded_prefix(build) is None or build.deleted_on is not None:
            raise InvalidInput(
                f"build {build_id} has no files (its status is {build.status}); rebuild it first"
            )
        if not any(row.artifact_type == artifact for row in build.build_artifacts):
            await queue_artifacts(session, build, [artifact])
            _record(session, caller, Action.ARTIFACT_MAKE, build, artifact)
    parts.pool.wake()


async def remove_artifact(
    parts: Parts, caller: Caller, build_id: int, artifact: ArtifactType
) -> int:
    """Stops the making of a form of a build, or removes it; returns the bytes that came free."""
    _check_makeable(artifact)
    async with parts.database.write() as session:
        build = await find_build(session, build_id)
        caller.require("build::delete", arn(build))
        running = await cancel_artifacts(session, [build.id], [ARTIFACT_TASKS[artifact]])
        removed = BuildArtifact.build_id == build.id, BuildArtifact.artifact_type == artifact
        await session.execute(delete(BuildArtifact).where(*removed))
        _record(session, caller, Action.ARTIFACT_REMOVE, build, artifact)
        if artifact == ArtifactType.DOCKER_MANIFEST:
            await drop_images(session, [build.id], unless_pulled_since=utcnow())
            await enqueue_once(session, "collect_blobs")
    for task_id in running:
        parts.pool.stop(task_id, Stop.CANCELED)
    freed = 0
    for row in build.build_artifacts:
        if row.artifact_type == artifact and _is_file(artifact):
            freed += await parts.storage.delete(row.key)
    return freed


def _record(
    session: AsyncSession, caller: Caller, action: Action, build: Build, artifact: ArtifactType
) -> None:
    environment = build.environment
    place = environment.namespace.name, environment.name
    details = {"artifact": artifact}
    record(session, caller, action, *place, build_id=build.id, details=details)


def _check_makeable(artifact: ArtifactType) -> None:
    if artifact not in ARTIFACT_TASKS:
        names = ", ".join(ARTIFACT_TASKS)
        raise InvalidInput(f"{artifact} is made by the build itself; choose one of {names}")


async def _last_tasks(session: AsyncSession, build_id: int) -> dict[str, Task]:
    kinds = list(ARTIFACT_TASKS.values())
    newest = select(func.max(Task.id)).where(Task.build_id == build_id, Task.kind.in_(kinds))
    rows = await session.scalars(select(Task).where(Task.id.in_(newest.group_by(Task.kind))))
    return {task.kind: task for task in rows}


async def _artifact(
    parts: Parts,
    build: Build,
    artifact: ArtifactType,
    stored: dict[ArtifactType, str],
    tasks: dict[str, Task],
) -> Artifact:
    kind = ARTIFACT_TASKS.get(artifact, "")
    task = tasks.get(kind)
    if task is not None and task.state in UNDER_WAY:
        progress = parts.making.progress(build.id, kind)
        return Artifact(artifact, ArtifactState(task.state), None, False, progress, None)
    if artifact in stored:
        key = stored[artifact]
        size = await parts.storage.size(key) if _is_file(artifact) else None
        is_pending = parts.storage.waits(key)
        return Artifact(artifact, ArtifactState.READY, size, is_pending, None, None)
    if task is not None and task.state in (TaskState.FAILED, TaskState.CANCELED):
        return Artifact(artifact, ArtifactState(task.state), None, False, None, task.error)
    return Artifact(artifact, ArtifactState.ABSENT, None, False, None, None)


def _is_file(artifact: ArtifactType) -> bool:
    return artifact is not ArtifactType.DOCKER_MANIFEST
