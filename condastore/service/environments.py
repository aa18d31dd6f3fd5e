"""Environments: names that point to builds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

from sqlalchemy import ColumnElement, bindparam, or_, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager, selectinload

from condastore.access import EVERYTHING, Caller
from condastore.audit import Action, record
from condastore.build_rows import find_build
from condastore.builds import ArtifactType, BuildStatus
from condastore.errors import InvalidInput, NotFound
from condastore.service.builds import Canceled, builds_with, cancel_in, settle_canceled
from condastore.service.pages import (
    LISTINGS,
    CursorListing,
    CursorPage,
    CursorRequest,
    Listing,
    Order,
    Page,
    PageRequest,
    contained,
    containing,
)
from condastore.service.parts import Parts
from condastore.service.records import (
    ENVIRONMENT_COLUMNS,
    EnvironmentRecord,
    NamespaceRecord,
    role_mappings,
)
from condastore.service.space import check_action
from condastore.service.visibility import environment_patterns, visible_environments
from condastore.tables import (
    Build,
    BuildArtifact,
    Environment,
    Namespace,
    Specification,
    utcnow,
)
from condastore.tasks import enqueue, enqueue_switch
from condastore.views import Query, Rows, Statement, Values, View

SORTABLE = {"namespace": Namespace.name, "name": Environment.name}
DEFAULT_ORDER = ("namespace", "name")
FILTERS: Mapping[str, ColumnElement[bool]] = {
    "search": or_(containing(Namespace.name, "search"), containing(Environment.name, "search")),
    "namespace": Namespace.name == bindparam("namespace"),
    "name": Environment.name == bindparam("name"),
    "status": Build.status == bindparam("status"),
    "artifact": Build.build_artifacts.any(BuildArtifact.artifact_type == bindparam("artifact")),
}
_OF_THE_BUILD = {"status", "artifact"}
_ENVIRONMENT = Statement(
    select(*ENVIRONMENT_COLUMNS)
    .join(Environment.namespace)
    .where(FILTERS["namespace"], FILTERS["name"])
)


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

    def values(self) -> Values:
        """Returns the values of `FILTERS` that are asked for."""
        wanted = {
            "search": contained(self.search) if self.search else None,
            "namespace": self.namespace or None,
            "name": self.name or None,
            "status": self.status,
            "artifact": self.artifact,
        }
        return {name: value for name, value in wanted.items() if value is not None}


async def list_environments(
    parts: Parts, caller: Caller, request: PageRequest, wanted: EnvironmentFilter
) -> Page[EnvironmentRecord]:
    """Returns a page of environments with their namespaces. Raises `InvalidInput`."""
    listed = await _listed(parts, caller, wanted)
    listing = _listing(listed, request.order(SORTABLE, DEFAULT_ORDER))
    return await parts.database.view(
        lambda view: listing.page(view, wanted.values(), request, partial(_records, view))
    )


async def continue_environments(
    parts: Parts, caller: Caller, request: CursorRequest, wanted: EnvironmentFilter
) -> CursorPage[EnvironmentRecord]:
    """Returns the environments that follow a cursor. Raises `InvalidInput`."""
    listed = await _listed(parts, caller, wanted)
    listing = _cursor_listing(listed, request.order(SORTABLE))
    return await parts.database.view(
        lambda view: listing.page(view, wanted.values(), request, partial(_records, view))
    )


class _Listed(NamedTuple):
    """What environments a list is of, apart from the values of the filters."""

    patterns: tuple[str, ...]
    holder_patterns: tuple[str, ...]
    filters: tuple[str, ...]
    packages: tuple[str, ...]

    def query(self) -> Query:
        """Returns what selects them all."""
        query = select(*ENVIRONMENT_COLUMNS).join(Environment.namespace)
        if _OF_THE_BUILD & set(self.filters) or self.packages:
            query = query.join(Build, Build.id == Environment.current_build_id)
        return query.where(
            Environment.deleted_on.is_(None),
            Environment.current_build_id.is_not(None),
            visible_environments(self.patterns),
            visible_environments(self.holder_patterns),
            *(FILTERS[name] for name in self.filters),
            *([Build.id.in_(builds_with(self.packages))] if self.packages else []),
        )


async def _listed(parts: Parts, caller: Caller, wanted: EnvironmentFilter) -> _Listed:
    holder_patterns: tuple[str, ...] = (EVERYTHING,)
    if wanted.jwt is not None:
        holder = await parts.identities.caller(wanted.jwt)
        if not holder.authenticated:
            raise InvalidInput("jwt is not a valid token; it may have ended or been revoked")
        holder_patterns = environment_patterns(holder)
    filters = tuple(wanted.values())
    return _Listed(environment_patterns(caller), holder_patterns, filters, tuple(wanted.packages))


@lru_cache(maxsize=LISTINGS)
def _listing(listed: _Listed, order: Order) -> Listing:
    return Listing(listed.query(), Environment.id, SORTABLE, order)


@lru_cache(maxsize=LISTINGS)
def _cursor_listing(listed: _Listed, order: Order) -> CursorListing:
    return CursorListing(listed.query(), Environment.id, SORTABLE, order)


def _records(view: View, rows: Rows) -> list[EnvironmentRecord]:
    """Makes them of rows of `ENVIRONMENT_COLUMNS`."""
    columns = {row[4]: row[4:] for row in rows}
    roles = role_mappings(view, columns)
    namespaces = {
        number: NamespaceRecord._make((*found, roles[number])) for number, found in columns.items()
    }
    return [EnvironmentRecord._make((*row[:4], namespaces[row[4]])) for row in rows]


async def get_environment(
    parts: Parts, caller: Caller, namespace: str, name: str
) -> EnvironmentRecord:
    """Returns an environment. Raises `NotFound`."""
    caller.require("environment::read", f"{namespace}/{name}")
    values = {"namespace": namespace, "name": name}
    found = await parts.database.view(lambda view: _records(view, view.rows(_ENVIRONMENT, values)))
    if not found:
        raise NotFound("environment does not exist")
    return found[0]


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
            before = {"before": environment.current_build_id}
            await _activate(session, environment, build_id)
            action = Action.ENVIRONMENT_ACTIVATE
            record(session, caller, action, namespace, name, build_id=build_id, details=before)
        if description is not None:
            environment.description = description
            record(session, caller, Action.ENVIRONMENT_DESCRIBE, namespace, name)
    parts.pool.wake()


async def delete_environment(parts: Parts, caller: Caller, namespace: str, name: str) -> int:
    """Marks an environment and its builds as deleted and queues the removal of their files.

    Returns the size of the builds in bytes; what their files share with other builds stays.
    """
    caller.require("environment::delete", f"{namespace}/{name}")
    async with parts.database.write() as session:
        environment = await _existing(session, namespace, name)
        builds, canceled = await mark_deleted(session, [environment])
        record(session, caller, Action.ENVIRONMENT_DELETE, namespace, name)
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
                selectinload(Build.specification).defer(Specification.spec, raiseload=True),
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
    await enqueue_switch(session, environment.id)
