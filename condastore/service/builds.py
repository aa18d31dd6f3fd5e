"""Builds: what can be seen of them, and what can be done to them."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager

from condastore.access import Caller
from condastore.artifact_rows import cancel_artifacts
from condastore.build_rows import add_artifact, arn, find_build, log_key, move_build
from condastore.builds import FINAL, ArtifactType, BuildStatus, cancel_marker
from condastore.errors import InvalidInput
from condastore.pool import Stop
from condastore.service.pages import Page, PageRequest, containing, page_of
from condastore.service.parts import Parts
from condastore.service.space import check_action
from condastore.service.visibility import visible_environments
from condastore.tables import (
    Build,
    CondaPackage,
    CondaPackageBuild,
    Environment,
    Namespace,
    Task,
    TaskState,
    build_packages,
    row_id,
    utcnow,
)
from condastore.tasks import enqueue

SORTABLE = {
    "id": Build.id,
    "started_on": Build.started_on,
    "scheduled_on": Build.scheduled_on,
    "ended_on": Build.ended_on,
}
PACKAGES_SORTABLE = {"channel": CondaPackage.channel_id, "name": CondaPackage.name}


@dataclass(frozen=True)
class BuildFilter:
    """Which builds a list shows; empty fields filter nothing."""

    status: BuildStatus | None = None
    artifact: ArtifactType | None = None
    packages: Sequence[str] = ()
    environment_id: int | None = None
    name: str = ""
    namespace: str = ""


@dataclass(frozen=True)
class PackageFilter:
    """Which packages of a build a list shows."""

    search: str = ""
    exact: bool = False
    build: str = ""


@dataclass(frozen=True)
class Canceled:
    """What was canceled: builds that waited, and tasks that run and are to be stopped."""

    waiting: list[Build]
    running: list[int]


async def list_builds(
    parts: Parts, caller: Caller, request: PageRequest, wanted: BuildFilter
) -> Page[Build]:
    """Returns a page of builds, those marked as deleted included."""
    query = (
        select(Build)
        .join(Build.environment)
        .join(Environment.namespace)
        .where(visible_environments(caller))
    )
    if wanted.status is not None:
        query = query.where(Build.status == wanted.status)
    if wanted.artifact is not None:
        query = query.where(Build.build_artifacts.any(artifact_type=wanted.artifact))
    if wanted.environment_id is not None:
        query = query.where(Build.environment_id == row_id(wanted.environment_id))
    if wanted.name:
        query = query.where(Environment.name == wanted.name)
    if wanted.namespace:
        query = query.where(Namespace.name == wanted.namespace)
    for name in wanted.packages:
        query = query.where(Build.id.in_(builds_with(name)))
    async with parts.database.read() as session:
        return await page_of(session, query, request, SORTABLE, ["id"])


async def get_build(parts: Parts, caller: Caller, build_id: int) -> Build:
    """Returns a build with its specification, artifacts and environment. Raises `NotFound`."""
    async with parts.database.read() as session:
        build = await find_build(session, build_id)
    caller.require("environment::read", arn(build))
    return build


async def list_packages(
    parts: Parts, caller: Caller, build_id: int, request: PageRequest, wanted: PackageFilter
) -> Page[CondaPackage]:
    """Returns a page of a build's packages."""
    await get_build(parts, caller, build_id)
    query = (
        select(CondaPackage)
        .join(CondaPackageBuild, CondaPackageBuild.package_id == CondaPackage.id)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .where(build_packages.c.build_id == build_id)
        .join(CondaPackage.channel)
        .options(contains_eager(CondaPackage.channel))
    )
    if wanted.search and wanted.exact:
        query = query.where(CondaPackage.name == wanted.search)
    elif wanted.search:
        query = query.where(containing(CondaPackage.name, wanted.search))
    if wanted.build:
        query = query.where(containing(CondaPackageBuild.build, wanted.build))
    async with parts.database.read() as session:
        return await page_of(session, query, request, PACKAGES_SORTABLE, ["channel", "name"])


async def rebuild(parts: Parts, caller: Caller, build_id: int) -> int:
    """Queues a new build of the same specification and returns its id."""
    async with parts.database.read() as session:
        old = await find_build(session, build_id)
    caller.require("environment::update", arn(old))
    await check_action(parts, old.environment.namespace.name, "build:create")
    async with parts.database.write() as session:
        old = await find_build(session, build_id)
        if old.environment.deleted_on is not None:
            raise InvalidInput(f"environment of build {build_id} is being deleted")
        build = await queue_build(parts, session, old.environment, old.specification_id)
    parts.pool.wake()
    return build.id


async def cancel(parts: Parts, caller: Caller, build_id: int) -> None:
    """Cancels a build that waits or runs; one that has ended stays as it is."""
    async with parts.database.write() as session:
        build = await find_build(session, build_id)
        caller.require("build::cancel", arn(build))
        canceled = await cancel_in(session, [build])
    await settle_canceled(parts, canceled)


async def delete_build(parts: Parts, caller: Caller, build_id: int) -> int:
    """Marks a build as deleted and queues the removal of its files.

    If it is its environment's current build, the newest other completed build takes its place.
    Returns the size of the build in bytes; what its files share with other builds stays.
    """
    async with parts.database.write() as session:
        build = await find_build(session, build_id)
        caller.require("build::delete", arn(build))
        if build.status not in FINAL:
            raise InvalidInput("cannot delete build since not finished building")
        making: list[int] = []
        if build.deleted_on is None:
            build.deleted_on = utcnow()
            making = await cancel_artifacts(session, [build.id])
            await _replace_current(session, build)
            enqueue(session, "delete_build", build.environment.namespace.name, build_id=build.id)
    await settle_canceled(parts, Canceled([], making))
    parts.pool.wake()
    return build.size


async def _replace_current(session: AsyncSession, build: Build) -> None:
    if build.environment.current_build_id != build.id:
        return
    other = await session.scalar(
        select(Build.id)
        .where(
            Build.environment_id == build.environment_id,
            Build.status == BuildStatus.COMPLETED,
            Build.deleted_on.is_(None),
        )
        .order_by(Build.id.desc())
        .limit(1)
    )
    if other is not None:
        build.environment.current_build_id = other


async def queue_build(
    parts: Parts, session: AsyncSession, environment: Environment, specification_id: int
) -> Build:
    """Adds a build and its task to the session's transaction; wake the pool after it."""
    build = Build(
        environment_id=environment.id,
        specification_id=specification_id,
        build_key_version=parts.config.build_key_version,
    )
    session.add(build)
    await session.flush()
    if environment.current_build_id is None:
        environment.current_build_id = build.id
    enqueue(session, "build", environment.namespace.name, build_id=build.id)
    return build


async def cancel_in(session: AsyncSession, builds: Sequence[Build]) -> Canceled:
    """Cancels builds within a transaction; what it returns goes to `settle_canceled`.

    Those that wait are CANCELED at once, those that run when they have stopped.
    """
    query = select(Task).where(
        Task.kind == "build",
        Task.build_id.in_([build.id for build in builds]),
        Task.state.in_([TaskState.QUEUED, TaskState.RUNNING]),
    )
    by_id = {build.id: build for build in builds}
    canceled = Canceled([], await cancel_artifacts(session, list(by_id)))
    for task in await session.scalars(query):
        task.cancel_requested = True
        if task.state == TaskState.RUNNING:
            canceled.running.append(task.id)
            continue
        task.state, task.ended_on = TaskState.CANCELED, utcnow()
        build = by_id[task.build_id or 0]
        # A daemon that died may have recorded the end of the build, but not that of its task.
        if build.status not in FINAL:
            move_build(build, BuildStatus.CANCELED)
            add_artifact(build, ArtifactType.LOGS, log_key(build))
            canceled.waiting.append(build)
    return canceled


async def settle_canceled(parts: Parts, canceled: Canceled) -> None:
    """Does what must follow `cancel_in` after its commit."""
    for task_id in canceled.running:
        parts.pool.stop(task_id, Stop.CANCELED)
    for build in canceled.waiting:
        key = log_key(build)
        parts.logs.open(build.id, key).append(cancel_marker(build.id) + "\n", always=True)
        await parts.logs.end(build.id, key, BuildStatus.CANCELED)


def builds_with(package: str) -> Select[tuple[int]]:
    """Returns the ids of the builds that contain a package of this name."""
    return (
        select(build_packages.c.build_id)
        .join(CondaPackageBuild, CondaPackageBuild.id == build_packages.c.conda_package_build_id)
        .join(CondaPackage, CondaPackage.id == CondaPackageBuild.package_id)
        .where(CondaPackage.name == package)
    )
