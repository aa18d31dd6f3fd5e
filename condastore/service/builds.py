"""Builds: what can be seen of them, and what can be done to them."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, literal, select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.access import EVERYTHING, Caller
from condastore.artifact_rows import cancel_artifacts
from condastore.audit import Action, record
from condastore.build_rows import add_artifact, arn, find_build, log_key, move_build
from condastore.builds import FINAL, ArtifactType, BuildStatus, cancel_marker
from condastore.errors import InvalidInput, NotFound
from condastore.pool import Stop
from condastore.service.pages import (
    LISTINGS,
    Listing,
    Order,
    Page,
    PageRequest,
    contained,
    containing,
    each,
)
from condastore.service.parts import Parts
from condastore.service.records import (
    ARTIFACT_COLUMNS,
    BUILD_COLUMNS,
    PACKAGE_COLUMNS,
    SPECIFICATION_COLUMNS,
    ArtifactRecord,
    BuildRecord,
    PackageRecord,
    SpecificationRecord,
)
from condastore.service.space import check_action
from condastore.service.visibility import environment_patterns, visible_environments
from condastore.tables import (
    Build,
    BuildArtifact,
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
from condastore.views import Query, Statement, Values, View

logger = logging.getLogger(__name__)

SORTABLE = {
    "id": Build.id,
    "started_on": Build.started_on,
    "scheduled_on": Build.scheduled_on,
    "ended_on": Build.ended_on,
}
FILTERS: Mapping[str, ColumnElement[bool]] = {
    "status": Build.status == bindparam("status"),
    "artifact": Build.build_artifacts.any(BuildArtifact.artifact_type == bindparam("artifact")),
    "environment_id": Build.environment_id == bindparam("environment_id"),
    "name": Environment.name == bindparam("name"),
    "namespace": Namespace.name == bindparam("namespace"),
}
PACKAGES_SORTABLE = {"channel": CondaPackage.channel_id, "name": CondaPackage.name}
PACKAGES_FILTERS: Mapping[str, ColumnElement[bool]] = {
    "exact": CondaPackage.name == bindparam("exact"),
    "search": containing(CondaPackage.name, "search"),
    "build": containing(CondaPackageBuild.build, "build"),
}
_BUILD = Statement(
    select(*BUILD_COLUMNS, *SPECIFICATION_COLUMNS, Namespace.name, Environment.name)
    .join(Build.specification)
    .join(Build.environment)
    .join(Environment.namespace)
    .where(Build.id == bindparam("build_id"))
)
_ARTIFACTS = Statement(
    select(*ARTIFACT_COLUMNS)
    .where(BuildArtifact.build_id == bindparam("build_id"))
    .order_by(BuildArtifact.id)
)


@dataclass(frozen=True)
class FoundBuild:
    """A build by itself."""

    build: BuildRecord
    specification: SpecificationRecord
    artifacts: Sequence[ArtifactRecord]
    arn: str
    """What permissions on it are checked against."""


@dataclass(frozen=True)
class BuildFilter:
    """Which builds a list shows; empty fields filter nothing."""

    status: BuildStatus | None = None
    artifact: ArtifactType | None = None
    packages: Sequence[str] = ()
    environment_id: int | None = None
    name: str = ""
    namespace: str = ""

    def values(self) -> Values:
        """Returns the values of `FILTERS` that are asked for."""
        wanted = {
            "status": self.status,
            "artifact": self.artifact,
            "environment_id": None if self.environment_id is None else row_id(self.environment_id),
            "name": self.name or None,
            "namespace": self.namespace or None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass(frozen=True)
class PackageFilter:
    """Which packages of a build a list shows."""

    search: str = ""
    exact: bool = False
    build: str = ""

    def values(self) -> Values:
        """Returns the values of `PACKAGES_FILTERS` that are asked for."""
        values = {}
        if self.search and self.exact:
            values["exact"] = self.search
        elif self.search:
            values["search"] = contained(self.search)
        if self.build:
            values["build"] = contained(self.build)
        return values


@dataclass(frozen=True)
class Canceled:
    """What was canceled: builds that waited, and tasks that run and are to be stopped."""

    waiting: list[Build]
    running: list[int]


async def list_builds(
    parts: Parts, caller: Caller, request: PageRequest, wanted: BuildFilter
) -> Page[BuildRecord]:
    """Returns a page of builds, those marked as deleted included."""
    values = wanted.values()
    listing = _listing(
        environment_patterns(caller),
        tuple(values),
        tuple(wanted.packages),
        request.order(SORTABLE, ["id"]),
    )
    return await parts.database.view(
        lambda view: listing.page(view, values, request, each(BuildRecord))
    )


@lru_cache(maxsize=LISTINGS)
def _listing(
    patterns: tuple[str, ...], filters: tuple[str, ...], packages: tuple[str, ...], order: Order
) -> Listing:
    query: Query = select(*BUILD_COLUMNS)
    conditions = [visible_environments(patterns), *(FILTERS[name] for name in filters)]
    if EVERYTHING not in patterns or {"name", "namespace"} & set(filters):
        # Without it, to count all builds is a look at an index.
        query = query.join(Build.environment).join(Environment.namespace)
    if packages:
        conditions.append(Build.id.in_(builds_with(packages)))
    query = query.where(*conditions)
    return Listing(query, Build.id, SORTABLE, order)


async def get_build(parts: Parts, caller: Caller, build_id: int) -> FoundBuild:
    """Returns a build with its specification and artifacts. Raises `NotFound`."""
    found = await parts.database.view(lambda view: _found(view, build_id))
    caller.require("environment::read", found.arn)
    problem = parts.disk.problem
    if problem is not None and found.build.status == BuildStatus.QUEUED:
        waiting = found.build._replace(status_info=f"it waits for room on the disk: {problem}")
        return replace(found, build=waiting)
    return found


def _found(view: View, build_id: int) -> FoundBuild:
    values = {"build_id": row_id(build_id)}
    rows = view.rows(_BUILD, values)
    if not rows:
        raise NotFound("build id does not exist")
    row = iter(rows[0])
    build = BuildRecord(*islice(row, len(BUILD_COLUMNS)))
    specification = SpecificationRecord(*islice(row, len(SPECIFICATION_COLUMNS)))
    artifacts = [ArtifactRecord(*artifact) for artifact in view.rows(_ARTIFACTS, values)]
    return FoundBuild(build, specification, artifacts, "/".join(row))


async def list_packages(
    parts: Parts, caller: Caller, build_id: int, request: PageRequest, wanted: PackageFilter
) -> Page[PackageRecord]:
    """Returns a page of a build's packages."""
    await get_build(parts, caller, build_id)
    values = {"build_id": build_id, **wanted.values()}
    listing = _packages_listing(
        tuple(wanted.values()), request.order(PACKAGES_SORTABLE, ["channel", "name"])
    )
    return await parts.database.view(
        lambda view: listing.page(view, values, request, each(PackageRecord))
    )


@lru_cache(maxsize=LISTINGS)
def _packages_listing(filters: tuple[str, ...], order: Order) -> Listing:
    query: Query = (
        select(*PACKAGE_COLUMNS)
        .join(CondaPackageBuild, CondaPackageBuild.package_id == CondaPackage.id)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .join(CondaPackage.channel)
        .where(build_packages.c.build_id == bindparam("build_id"))
        .where(*(PACKAGES_FILTERS[name] for name in filters))
    )
    return Listing(query, CondaPackage.id, PACKAGES_SORTABLE, order)


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
        build = await queue_build(parts, session, caller, old.environment, old.specification_id)
        _record(session, caller, Action.BUILD_REBUILD, old, build.id, {"of": old.id})
    logger.info("build %d of %s is queued", build.id, arn(old))
    parts.pool.wake()
    return build.id


async def cancel(parts: Parts, caller: Caller, build_id: int) -> None:
    """Cancels a build that waits or runs; one that has ended stays as it is."""
    async with parts.database.write() as session:
        build = await find_build(session, build_id)
        caller.require("build::cancel", arn(build))
        if build.status not in FINAL:
            _record(session, caller, Action.BUILD_CANCEL, build, build.id)
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
            _record(session, caller, Action.BUILD_DELETE, build, build.id)
            making = await cancel_artifacts(session, [build.id])
            await _replace_current(session, build)
            enqueue(session, "delete_build", build.environment.namespace.name, build_id=build.id)
    await settle_canceled(parts, Canceled([], making))
    parts.pool.wake()
    return build.size


def _record(
    session: AsyncSession,
    caller: Caller,
    action: Action,
    build: Build,
    build_id: int,
    details: Mapping[str, Any] | None = None,
) -> None:
    environment = build.environment
    place = environment.namespace.name, environment.name
    record(session, caller, action, *place, build_id=build_id, details=details)


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
    parts: Parts,
    session: AsyncSession,
    caller: Caller,
    environment: Environment,
    specification_id: int,
    payload: dict[str, Any] | None = None,
) -> Build:
    """Adds a build and its task to the session's transaction; wake the pool after it."""
    build = Build(
        author=caller.signature,
        environment_id=environment.id,
        specification_id=specification_id,
        build_key_version=parts.config.build_key_version,
    )
    session.add(build)
    await session.flush()
    if environment.current_build_id is None:
        environment.current_build_id = build.id
    enqueue(session, "build", environment.namespace.name, build_id=build.id, payload=payload)
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
        parts.metrics.build_ended(BuildStatus.CANCELED)
        try:
            parts.logs.open(build.id, key).append(cancel_marker(build.id) + "\n", always=True)
            await parts.logs.end(build.id, key, BuildStatus.CANCELED)
        except OSError as error:
            # It is cancelled, also where a full disk has no room for its log.
            logger.error("the log of the cancelled build %d: %s", build.id, error)


def builds_with(packages: Collection[str]) -> Select[tuple[int]]:
    """Returns the ids of the builds that contain packages of all these names, at least one.

    In one look at the packages: PostgreSQL plans a look for each of some hundred for ever.
    """
    names = [literal(name) for name in set(packages)]
    return (
        select(build_packages.c.build_id)
        .join(CondaPackageBuild, CondaPackageBuild.id == build_packages.c.conda_package_build_id)
        .join(CondaPackage, CondaPackage.id == CondaPackageBuild.package_id)
        .where(CondaPackage.name.in_(names))
        .group_by(build_packages.c.build_id)
        .having(func.count(CondaPackage.name.distinct()) == len(names))
    )
