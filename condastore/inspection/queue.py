"""Builds and tasks that claim to run, or wait for nothing (I3)."""

from collections.abc import AsyncIterator
from functools import partial

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, update

from condastore.build_rows import find_build, move_build, prefix_of, recorded_prefix
from condastore.builds import BuildStatus
from condastore.database import epoch
from condastore.errors import BuildError
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene
from condastore.tables import Build, Environment, Namespace, Task, TaskState
from condastore.tasks import enqueue, is_of

_KIND = "task that claims to run"


async def inspect_queue(scene: Scene) -> AsyncIterator[Finding]:
    """Yields what a daemon that died left under way; the next start takes it up as well."""
    dead = _dead(scene)
    async with scene.database.read() as session:
        tasks = (await session.execute(select(Task.id, Task.kind).where(*dead))).all()
        builds = (await session.scalars(_stuck(dead))).all()
    for task_id, kind in tasks:
        yield Finding(
            _KIND, f"task {task_id}: {kind}", "queued again", partial(_requeue, scene, task_id)
        )
    for build_id in builds:
        yield Finding(
            "build that nothing works on",
            f"build {build_id}",
            "queued again, or finished if its files are there",
            partial(_settle, scene, build_id),
        )


def _dead(scene: Scene) -> list[ColumnElement[bool]]:
    """Tasks whose daemon is gone; on PostgreSQL another one's may be alive elsewhere."""
    gone: list[ColumnElement[bool]] = [Task.state == TaskState.RUNNING]
    if not scene.database.is_sqlite:
        ended = func.coalesce(Task.lease_until, 0.0) < epoch()
        gone.append(or_(ended, is_of(scene.directory)))
    return gone


def _stuck(dead: list[ColumnElement[bool]]) -> Select[int]:
    cared_for = Task.build_id == Build.id, Task.kind == "build"
    queued = select(Task.id).where(*cared_for, Task.state == TaskState.QUEUED).exists()
    running = select(Task.id).where(*cared_for, Task.state == TaskState.RUNNING).exists()
    killed = select(Task.id).where(*cared_for, *dead).exists()
    return (
        select(Build.id)
        .where(
            or_(
                and_(Build.status == BuildStatus.BUILDING, or_(~running, killed)),
                and_(Build.status == BuildStatus.QUEUED, ~queued, ~running),
            )
        )
        .order_by(Build.id)
    )


async def _requeue(scene: Scene, task_id: int) -> None:
    """Without counting the attempts anew, and as a death, so that what kills is given up."""
    async with scene.database.write() as session:
        await session.execute(
            update(Task)
            .where(Task.id == task_id)
            .values(
                state=TaskState.QUEUED,
                deaths=Task.deaths + 1,
                lease_owner=None,
                lease_until=None,
            )
        )


async def _settle(scene: Scene, build_id: int) -> None:
    async with scene.database.write() as session:
        build = await find_build(session, build_id)
        task = await session.scalar(
            select(Task.id).where(
                Task.build_id == build_id, Task.kind == "build", Task.state == TaskState.QUEUED
            )
        )
        if recorded_prefix(build) is not None:
            if build.status == BuildStatus.QUEUED:
                move_build(build, BuildStatus.BUILDING)
            move_build(build, BuildStatus.COMPLETED)
            return
        if build.status == BuildStatus.BUILDING:
            move_build(build, BuildStatus.QUEUED)
        if task is None:
            namespace = select(Namespace.name).join(
                Environment, Environment.namespace_id == Namespace.id
            )
            name = await session.scalar(namespace.where(Environment.id == build.environment_id))
            enqueue(session, "build", name or "", build_id=build_id)
        try:
            prefix = prefix_of(scene.store, build)
        except BuildError:
            return
    if prefix.is_dir():
        scene.store.discard(prefix)
