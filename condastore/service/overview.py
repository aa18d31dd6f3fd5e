"""What pages for people show at a glance: lines of environments and of builds, as plain values."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Integer, Select, bindparam, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from condastore.access import Caller
from condastore.build_rows import arn, find_build
from condastore.builds import BuildStatus
from condastore.errors import NotFound
from condastore.service.environments import find_environment
from condastore.service.pages import Page
from condastore.service.parts import Parts
from condastore.service.visibility import environment_patterns, visible_environments
from condastore.tables import (
    Build,
    CondaChannel,
    CondaPackage,
    CondaPackageBuild,
    Environment,
    Namespace,
    Task,
    TaskState,
    build_packages,
    row_id,
)
from condastore.views import Statement, View

# How many of the last builds an estimate is made of.
_RECENT = 20


_OF_ENVIRONMENT = Build.environment_id == bindparam("environment_id")
_COUNT = Statement(select(func.count()).select_from(Build).where(_OF_ENVIRONMENT))
_BUILDS = Statement(
    select(
        Build.id,
        Build.status,
        Build.status_info,
        Build.size,
        Build.scheduled_on,
        Build.started_on,
        Build.ended_on,
        Build.deleted_on,
        Build.author,
    )
    .where(_OF_ENVIRONMENT)
    .order_by(Build.id.desc())
    .limit(bindparam("size", type_=Integer()))
    .offset(bindparam("offset", type_=Integer()))
)
_PACKAGES = Statement(
    select(
        CondaPackage.name,
        CondaPackage.version,
        CondaPackageBuild.build,
        CondaChannel.name,
        CondaPackageBuild.size,
        CondaPackageBuild.depends,
        CondaPackage.summary,
    )
    .select_from(build_packages)
    .join(CondaPackageBuild, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
    .join(CondaPackage, CondaPackage.id == CondaPackageBuild.package_id)
    .join(CondaChannel, CondaChannel.id == CondaPackage.channel_id)
    .where(build_packages.c.build_id == bindparam("build_id"))
    .order_by(CondaPackage.name)
)


@dataclass(frozen=True)
class EnvironmentLine:
    """An environment with its current build, and with its newest one if that is another."""

    namespace: str
    name: str
    description: str | None
    build_id: int
    status: BuildStatus
    size: int
    """Bytes of the current build."""
    built_on: datetime
    newest_id: int
    newest_status: BuildStatus
    newest_on: datetime
    newest_author: str | None
    """Who asked for the newest build; None where that was not noted."""


@dataclass(frozen=True)
class BuildLine:
    """A build among the builds of its environment."""

    id: int
    status: BuildStatus
    status_info: str | None
    size: int
    scheduled_on: datetime
    started_on: datetime | None
    ended_on: datetime | None
    deleted_on: datetime | None
    author: str | None


@dataclass(frozen=True)
class InstalledPackage:
    """A conda package of a build; `size` in bytes, as it was downloaded."""

    name: str
    version: str
    build: str
    channel: str
    size: int
    depends: Sequence[str]
    summary: str | None


@dataclass(frozen=True)
class Waiting:
    """Where a build is in the queue."""

    before: int
    """Builds that were queued earlier and still wait or run."""
    usual_s: float | None
    """The median duration of the last builds."""

    def starts_in_s(self, places: int) -> float | None:
        """Returns in about how many seconds it starts, where so many builds run at a time."""
        if self.usual_s is None:
            return None
        return max(self.before - places + 1, 0) / places * self.usual_s


async def get_build(parts: Parts, caller: Caller, build_id: int) -> Build:
    """Returns a build with its specification, artifacts and environment. Raises `NotFound`."""
    async with parts.database.read() as session:
        build = await find_build(session, build_id, with_spec=True)
    caller.require("environment::read", arn(build))
    return build


async def get_environment(parts: Parts, caller: Caller, namespace: str, name: str) -> Environment:
    """Returns an environment with its namespace. Raises `NotFound`, also while it goes away."""
    caller.require("environment::read", f"{namespace}/{name}")
    async with parts.database.read() as session:
        environment = await find_environment(session, namespace, name)
    if environment is None or environment.current_build_id is None:
        raise NotFound("environment does not exist")
    if environment.deleted_on is not None:
        raise NotFound(f"{namespace}/{name} is being deleted")
    return environment


async def list_lines(
    parts: Parts,
    caller: Caller,
    *,
    page: int,
    size: int,
    search: str = "",
    namespace: str = "",
    status: BuildStatus | None = None,
) -> Page[EnvironmentLine]:
    """Returns a page of environments, by namespace and name.

    `status` is that of the newest build. The search is for a part of `namespace/name`.
    """
    current, newest = aliased(Build), aliased(Build)
    wanted = _wanted(caller, search, namespace)
    newest_id = select(func.max(Build.id)).where(Build.environment_id == Environment.id)
    query: Any = wanted.join(newest, newest.id == newest_id.scalar_subquery())
    if status is not None:
        query = query.where(newest.status == status)
    counted = wanted if status is None else query
    lines = query.with_only_columns(
        Namespace.name,
        Environment.name,
        Environment.description,
        current.id,
        current.status,
        current.size,
        func.coalesce(current.ended_on, current.scheduled_on),
        newest.id,
        newest.status,
        func.coalesce(newest.ended_on, newest.started_on, newest.scheduled_on),
        newest.author,
    ).join(current, current.id == Environment.current_build_id)
    lines = lines.order_by(Namespace.name, Environment.name).limit(size).offset((page - 1) * size)
    async with parts.database.read() as session:
        count = await session.scalar(counted.with_only_columns(func.count())) or 0
        rows = [EnvironmentLine(*row) for row in await session.execute(lines)]
    return Page(rows, page, size, count)


def _wanted(caller: Caller, search: str, namespace: str) -> Select[Any]:
    query: Select[Any] = (
        select(Environment.id)
        .join(Namespace, Namespace.id == Environment.namespace_id)
        .where(
            Environment.deleted_on.is_(None),
            Environment.current_build_id.is_not(None),
            visible_environments(environment_patterns(caller)),
        )
    )
    if namespace:
        query = query.where(Namespace.name == namespace)
    if search:
        before, slash, after = search.partition("/")
        either = [
            column.contains(search, autoescape=True)
            for column in (Namespace.name, Environment.name)
        ]
        if slash:
            either = [Namespace.name.endswith(before.strip(), autoescape=True)]
            query = query.where(Environment.name.startswith(after.strip(), autoescape=True))
        query = query.where(or_(*either))
    return query


async def list_builds_of(
    parts: Parts, caller: Caller, arn: str, environment_id: int, *, page: int, size: int
) -> Page[BuildLine]:
    """Returns a page of the builds of an environment, newest first."""
    caller.require("environment::read", arn)
    values = {"environment_id": environment_id, "size": size, "offset": (page - 1) * size}

    def look(view: View) -> Page[BuildLine]:
        [(count,)] = view.rows(_COUNT, values)
        lines = [BuildLine(*row) for row in view.rows(_BUILDS, values)]
        return Page(lines, page, size, count)

    return await parts.database.view(look)


async def packages_of(parts: Parts, build_ids: Sequence[int]) -> dict[int, list[InstalledPackage]]:
    """Returns the conda packages of builds that the caller may read, by build and name."""

    def look(view: View) -> dict[int, list[InstalledPackage]]:
        return {
            build_id: [
                InstalledPackage(*row)
                for row in view.rows(_PACKAGES, {"build_id": row_id(build_id)})
            ]
            for build_id in build_ids
        }

    return await parts.database.view(look)


async def phases_of(parts: Parts, build_id: int) -> list[dict[str, Any]]:
    """Returns the phases of the last finished attempt at a build: `phase` and `seconds`."""
    query = (
        select(Task.result)
        .where(Task.build_id == row_id(build_id), Task.kind == "build")
        .order_by(Task.id.desc())
        .limit(1)
    )
    async with parts.database.read() as session:
        result = await session.scalar(query)
    return list((result or {}).get("phases", []))


async def waiting(parts: Parts, build_id: int) -> Waiting:
    """Returns where a build is in the queue, as far as it can be told."""
    earlier = select(func.count()).where(
        Task.kind == "build",
        Task.state.in_([TaskState.QUEUED, TaskState.RUNNING]),
        Task.build_id < build_id,
    )
    async with parts.database.read() as session:
        before = await session.scalar(earlier) or 0
        return Waiting(before, await usual_seconds(session))


async def usual_seconds(session: AsyncSession) -> float | None:
    """Returns the median duration of the last completed builds."""
    query: Any = (
        select(Build.started_on, Build.ended_on)
        .where(
            Build.status == BuildStatus.COMPLETED,
            Build.started_on.is_not(None),
            Build.ended_on.is_not(None),
        )
        .order_by(Build.id.desc())
        .limit(_RECENT)
    )
    seconds = sorted(
        (ended - started).total_seconds() for started, ended in await session.execute(query)
    )
    return seconds[len(seconds) // 2] if seconds else None
