"""Posting a specification, which queues a build."""

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore import environment_yaml
from condastore.access import Caller
from condastore.audit import Action, record
from condastore.configuration import CondaStore, server_platform
from condastore.database import insert_into
from condastore.documents import Limits
from condastore.duties import Turn
from condastore.errors import Conflict
from condastore.faults import fault
from condastore.lockfiles import conda_lock, forms
from condastore.names import Name, check_name
from condastore.policy import apply_settings
from condastore.service.builds import queue_build
from condastore.service.environments import find_environment
from condastore.service.parts import Parts
from condastore.service.space import check_action
from condastore.setting_rows import load_settings
from condastore.specification import (
    CondaSpecification,
    LockfileSpecification,
    Specification,
)
from condastore.tables import Base, Build, Environment, Namespace
from condastore.tables import Specification as SpecificationRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Submission:
    """What a user posts; the environment's name and description are for lockfiles only."""

    text: str
    namespace: str | None
    is_lockfile: bool = False
    environment_name: str = ""
    environment_description: str = ""
    unless_built: bool = False
    """Only if the namespace has no build of the same content."""
    restores: int | None = None
    """The deleted build whose packages these are."""


async def submit(
    parts: Parts, caller: Caller, submission: Submission, turn: Turn | None = None
) -> int | None:
    """Queues a build of what was posted and returns the build's id; None if there is one already.

    Raises `InvalidSpecification`, `InvalidInput` for the name of the namespace, `Unauthorized`,
    `Conflict` while the environment is being deleted, or `TurnOver` if it is another daemon's
    `turn` to submit this.
    """
    # Half a megabyte of YAML takes longer to parse than the event loop may be held.
    specification = await asyncio.to_thread(_parse, parts.config, submission)
    name = submission.namespace or caller.primary_namespace
    caller.require("environment:create", f"{name}/{specification.name}")
    namespace = check_name(name)
    await check_action(parts, namespace, "environment:create")
    if isinstance(specification, CondaSpecification):
        specification = await hooked(parts, namespace, specification)
        caller.require("environment:create", f"{namespace}/{specification.name}")
    async with parts.database.write() as session:
        if turn is not None:
            await turn.check(session)
        if isinstance(specification, CondaSpecification):
            settings = await load_settings(session, parts.defaults, namespace, specification.name)
            specification = apply_settings(specification, settings)
        if submission.unless_built and await _is_built(session, namespace, specification):
            return None
        build = await queue_specification(parts, session, caller, namespace, specification)
        place = namespace, specification.name
        if submission.restores is None:
            record(session, caller, Action.BUILD_QUEUE, *place, build_id=build.id)
        else:
            details = {"of": submission.restores}
            action = Action.BUILD_RESTORE
            record(session, caller, action, *place, build_id=build.id, details=details)
        fault("submit.written")
    fault("submit.committed")
    logger.info("build %d of %s/%s is queued", build.id, *place)
    parts.pool.wake()
    return build.id


async def queue_specification(
    parts: Parts,
    session: AsyncSession,
    caller: Caller,
    namespace: Name,
    specification: Specification,
    payload: dict[str, Any] | None = None,
) -> Build:
    """Adds a build of a specification to the session's transaction; wake the pool after it.

    Raises `Unauthorized` if the caller may not make the namespace that is missing, or `Conflict`.
    """
    environment = await _environment(session, caller, namespace, specification)
    row_id = await _row_id(session, specification)
    return await queue_build(parts, session, caller, environment, row_id, payload)


async def hooked(
    parts: Parts, namespace: Name, specification: CondaSpecification
) -> CondaSpecification:
    """Returns what the operator's hook makes of a specification, checked like what is posted."""
    given = specification.as_dict()
    changed = await parts.hooks.specification(namespace, specification.as_dict())
    if changed == given:
        return specification
    return await asyncio.to_thread(environment_yaml.from_value, changed)


def _parse(config: CondaStore, submission: Submission) -> Specification:
    if not submission.is_lockfile:
        limits = environment_yaml.Limits(size_bytes=config.max_specification_bytes)
        return environment_yaml.parse(submission.text, limits)
    largest = Limits(config.max_lockfile_bytes, conda_lock.LIMITS.nodes)
    locked = forms.read(submission.text, largest, server_platform())
    conda_lock.check_platform(locked.lockfile, server_platform())
    return LockfileSpecification(
        name=check_name(submission.environment_name),
        description=submission.environment_description,
        lockfile=locked.lockfile,
        is_partial=locked.is_partial,
    )


async def _is_built(session: AsyncSession, namespace: Name, specification: Specification) -> bool:
    sha256 = await asyncio.to_thread(lambda: specification.sha256)
    query = (
        select(Build.id)
        .join(Build.specification)
        .join(Build.environment)
        .join(Environment.namespace)
        .where(SpecificationRow.sha256 == sha256, Namespace.name == namespace)
        .where(Build.deleted_on.is_(None))
        .limit(1)
    )
    return await session.scalar(query) is not None


async def _environment(
    session: AsyncSession, caller: Caller, namespace: Name, specification: Specification
) -> Environment:
    """Finds or makes the environment and its namespace."""
    environment = await find_environment(session, namespace, specification.name)
    if environment is None:
        namespace_id = await find_or_make_namespace(session, caller, namespace)
        await _unless_there(
            session, Environment, namespace_id=namespace_id, name=specification.name
        )
        environment = await find_environment(session, namespace, specification.name)
    assert environment is not None
    if environment.deleted_on is not None or environment.namespace.deleted_on is not None:
        raise Conflict(
            f"environment {namespace}/{specification.name} is being deleted; "
            "try again when it is gone"
        )
    if specification.description:
        environment.description = specification.description
    return environment


async def find_or_make_namespace(session: AsyncSession, caller: Caller, name: Name) -> int:
    """Returns a namespace's id. Raises `Unauthorized` if there is none and he may not make it."""
    query = select(Namespace.id).where(Namespace.name == name)
    namespace_id = await session.scalar(query)
    if namespace_id is None:
        caller.require("namespace::create", name)
        if await _unless_there(session, Namespace, name=name):
            record(session, caller, Action.NAMESPACE_CREATE, name)
        namespace_id = (await session.scalars(query)).one()
    return namespace_id


async def _unless_there(session: AsyncSession, table: type[Base], **values: Any) -> bool:
    """Adds a row, unless somebody else does at the same moment; returns whether it did.

    On PostgreSQL it waits for the other one, and the row can be found after it on both.
    """
    adding = insert_into(session, table).values(values).on_conflict_do_nothing()
    return await session.scalar(adding.returning(table.__table__.c.id)) is not None


async def _row_id(session: AsyncSession, specification: Specification) -> int:
    """Finds or makes the row of a specification's content."""
    # Of a large lockfile, both take longer than the event loop may be held.
    sha256 = await asyncio.to_thread(lambda: specification.sha256)
    query = select(SpecificationRow.id).where(SpecificationRow.sha256 == sha256)
    row_id = await session.scalar(query)
    if row_id is None:
        await _unless_there(
            session,
            SpecificationRow,
            name=specification.name,
            spec=await asyncio.to_thread(specification.as_dict),
            sha256=sha256,
            is_lockfile=isinstance(specification, LockfileSpecification),
        )
        row_id = (await session.scalars(query)).one()
    return row_id
