"""Environments: names that point to builds."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Select, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager, selectinload

from condastore.access import Caller
from condastore.build_rows import find_build
from condastore.builds import ArtifactType, BuildStatus
from condastore.errors import InvalidInput, NotFound
from condastore.service.builds import Canceled, builds_with, cancel_in, settle_canceled
from condastore.service.pages import (
    CursorPage,
    CursorRequest,
    Page,
    PageRequest,
    containing,
    cursor_page_of,
    page_of,
)
from condastore.service.parts import Parts
from condastore.service.space import check_action
from condastore.service.visibility import visible_environments
from condastore.tables import Build, Environment, Namespace, utcnow
from condastore.tasks import enqueue

SORTABLE = {"namespace": Namespace.name, "name": Environment.name}


@dataclass(frozen=True)
class EnvironmentFilter:
    """Which environments a list shows; status, artifact and packages are of the current build."""

    search: str = ""
    namespace: str = ""
    name: str = ""
    status: BuildStatus | None = None
    artifact: ArtifactType | None = None
    packages: Sequence[str] = ()
    jwt: str | None = None
    """A token; only what its holder may see as well."""


async def list_environments(
    parts: Parts, caller: Caller, request: PageRequest, wanted: EnvironmentFilter
) -> Page[Environment]:
    """Returns a page of environments with their namespaces."""
    query = await _wanted(parts, caller, wanted)
    async with parts.database.read() as session:
        return await page_of(session, query, request, SORTABLE, ["namespace", "name"])


async def continue_environments(
    parts: Parts, caller: Caller, request: CursorRequest, wanted: EnvironmentFilter
) -> CursorPage[Environment]:
    """Returns the environments that follow a cursor. Raises `InvalidInput`."""
    query = await _wanted(parts, caller, wanted)
    async with parts.database.read() as session:
        return await cursor_page_of(session, query, request, SORTABLE, Environment.id)


async def _wanted(parts: Parts, caller: Caller, wanted: EnvironmentFilter) -> Select[Environment]:
    query = (
        select(Environment)
        .join(Environment.namespace)
        .join(Build, Build.id == Environment.current_build_id)
        .where(Environment.deleted_on.is_(None), visible_environments(caller))
        .options(contains_eager(Environment.namespace).selectinload(Namespace.role_mappings))
    )
    if wanted.jwt is not None:
        holder = await parts.identities.caller(wanted.jwt)
        if not holder.authenticated:
            raise InvalidInput("jwt is not a valid token; it may have ended or been revoked")
        query = query.where(visible_environments(holder))
    if wanted.search:
        query = query.where(
            or_(
                containing(Namespace.name, wanted.search),
                containing(Environment.name, wanted.search),
            )
        )
    if wanted.namespace:
        query = query.where(Namespace.name == wanted.namespace)
    if wanted.name:
        query = query.where(Environment.name == wanted.name)
    if wanted.status is not None:
        query = query.where(Build.status == wanted.status)
    if wanted.artifact is not None:
        query = query.where(Build.build_artifacts.any(artifact_type=wanted.artifact))
    for name in wanted.packages:
        query = query.where(Build.id.in_(builds_with(name)))
    return query


async def get_environment(parts: Parts, caller: Caller, namespace: str, name: str) -> Environment:
    """Returns an environment. Raises `NotFound`."""
    caller.require("environment::read", f"{namespace}/{name}")
    async with parts.database.read() as session:
        environment = await find_environment(session, namespace, name)
    if environment is None:
        raise NotFound("environment does not exist")
    return environment


async def current_build(parts: Parts, caller: Caller, namespace: str, name: str) -> int:
    """Returns the id of an environment's current build. Raises `NotFound`."""
    async with parts.database.read() as session:
        environment = await find_environment(session, namespace, name)
    if environment is None:
        raise NotFound("environment does not exist")
    caller.require("environment::read", f"{namespace}/{name}")
    if environment.current_build_id is None:
        raise NotFound("build id does not exist")
    return environment.current_build_id


async def update_environment(
    parts: Parts,
    caller: Caller,
    namespace: str,
    name: str,
    *,
    build_id: int | None,
    description: str | None,
) -> None:
    """Changes an environment's description, or makes one of its completed builds the current one.

    Raises `InvalidInput` for a build that can't be.
    """
    caller.require("environment::update", f"{namespace}/{name}")
    await check_action(parts, namespace, "environment:update")
    async with parts.database.write() as session:
        environment = await _existing(session, namespace, name)
        if build_id is not None:
            await _activate(session, environment, build_id)
        if description is not None:
            environment.description = description
    parts.pool.wake()


async def delete_environment(parts: Parts, caller: Caller, namespace: str, name: str) -> int:
    """Marks an environment and its builds as deleted and queues the removal of their files.

    Returns the size of the builds in bytes; what their files share with other builds stays.
    """
    caller.require("environment::delete", f"{namespace}/{name}")
    async with parts.database.write() as session:
        environment = await _existing(session, namespace, name)
        builds, canceled = await mark_deleted(session, [environment])
        enqueue(
            session,
            "delete_environment",
            namespace,
            payload={"environment_id": environment.id},
        )
    await settle_canceled(parts, canceled)
    parts.pool.wake()
    return sum(build.size for build in builds)


async def mark_deleted(
    session: AsyncSession, environments: Sequence[Environment]
) -> tuple[Sequence[Build], Canceled]:
    """Marks environments as deleted within a transaction, and cancels what builds for them.

    Returns their builds, and what is for `settle_canceled`.
    """
    now = utcnow()
    ids = [environment.id for environment in environments]
    builds = (
        await session.scalars(
            select(Build)
            .where(Build.environment_id.in_(ids))
            .options(
                selectinload(Build.specification),
                selectinload(Build.environment).selectinload(Environment.namespace),
                selectinload(Build.build_artifacts),
            )
        )
    ).all()
    for environment in environments:
        environment.deleted_on = environment.deleted_on or now
    for build in builds:
        build.deleted_on = build.deleted_on or now
    return builds, await cancel_in(session, builds)


async def find_environment(session: AsyncSession, namespace: str, name: str) -> Environment | None:
    """Returns an environment with its namespace; None if there is none that was ever built."""
    query = (
        select(Environment)
        .join(Environment.namespace)
        .where(Namespace.name == namespace, Environment.name == name)
        .options(contains_eager(Environment.namespace).selectinload(Namespace.role_mappings))
    )
    environment: Environment | None = await session.scalar(query)
    return environment


async def _existing(session: AsyncSession, namespace: str, name: str) -> Environment:
    environment = await find_environment(session, namespace, name)
    if environment is None or environment.deleted_on is not None:
        raise InvalidInput(f"environment namespace={namespace} name={name} does not exist")
    return environment


async def _activate(session: AsyncSession, environment: Environment, build_id: int) -> None:
    try:
        build = await find_build(session, build_id)
    except NotFound:
        raise InvalidInput(f"build id={build_id} does not exist") from None
    if build.environment_id != environment.id:
        raise InvalidInput(
            "cannot update environment to build id since specification does not match "
            "environment name"
        )
    if build.status != BuildStatus.COMPLETED or build.deleted_on is not None:
        raise InvalidInput("cannot update environment to build id since not completed")
    environment.current_build_id = build.id
    enqueue(
        session,
        "update_environment_build",
        environment.namespace.name,
        payload={"environment_id": environment.id},
    )
