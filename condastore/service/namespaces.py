"""Namespaces."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import selectinload

from condastore.access import Caller, check_pattern
from condastore.audit import Action, record
from condastore.errors import Conflict, InvalidInput, NotFound, Unauthorized
from condastore.names import check_name
from condastore.service.builds import settle_canceled
from condastore.service.environments import mark_deleted
from condastore.service.pages import LISTINGS, Listing, Order, Page, PageRequest, each
from condastore.service.parts import Parts
from condastore.service.records import NAMESPACE_COLUMNS, NamespaceRecord, role_mappings
from condastore.service.visibility import namespace_patterns, visible_namespaces
from condastore.tables import Environment, Namespace, NamespaceRoleMapping, utcnow
from condastore.tasks import enqueue
from condastore.views import Statement, View

SORTABLE = {"name": Namespace.name}
# So many of the mappings that replace all others are named in the audit log.
MAPPINGS_NOTED = 50
_NAMESPACE = Statement(
    select(*NAMESPACE_COLUMNS).where(
        Namespace.name == bindparam("name"), Namespace.deleted_on.is_(None)
    )
)


class ListedNamespace(NamedTuple):
    """A namespace as the list shows it."""

    id: int
    name: str


async def list_namespaces(
    parts: Parts, caller: Caller, request: PageRequest
) -> Page[ListedNamespace]:
    """Returns a page of the namespaces."""
    listing = _listing(namespace_patterns(caller), request.order(SORTABLE, ["name"]))
    return await parts.database.view(
        lambda view: listing.page(view, {}, request, each(ListedNamespace))
    )


@lru_cache(maxsize=LISTINGS)
def _listing(patterns: tuple[str, ...], order: Order) -> Listing:
    query = select(Namespace.id, Namespace.name).where(
        Namespace.deleted_on.is_(None), visible_namespaces(patterns)
    )
    return Listing(query, Namespace.id, SORTABLE, order)


async def get_namespace(parts: Parts, caller: Caller, name: str) -> NamespaceRecord:
    """Returns a namespace with its role mappings. Raises `NotFound`."""
    caller.require("namespace::read", name)
    return await parts.database.view(lambda view: _found(view, name))


def _found(view: View, name: str) -> NamespaceRecord:
    rows = view.rows(_NAMESPACE, {"name": name})
    if not rows:
        raise NotFound("namespace does not exist")
    number = rows[0][0]
    return NamespaceRecord._make((*rows[0], role_mappings(view, [number])[number]))


async def create_namespace(parts: Parts, caller: Caller, name: str) -> None:
    """Makes a namespace. Raises `Conflict` if there is one, also while it is being deleted."""
    caller.require("namespace::create", name)
    check_name(name)
    parts.disk.require()
    async with parts.database.write() as session:
        if await session.scalar(select(Namespace.id).where(Namespace.name == name)) is not None:
            raise Conflict("namespace already exists")
        session.add(Namespace(name=name))
        record(session, caller, Action.NAMESPACE_CREATE, name)


async def update_namespace(
    parts: Parts,
    caller: Caller,
    name: str,
    *,
    metadata: dict[str, Any] | None = None,
    role_mappings: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Replaces a namespace's metadata, and what its users may do elsewhere; None leaves it.

    Raises `NotFound`, `InvalidInput`, and `Unauthorized` if the caller would give away rights
    that he has not.
    """
    caller.require("namespace::update", name)
    rows = None
    if role_mappings is not None:
        caller.require("namespace-role-mapping::create", name)
        caller.require("namespace-role-mapping::delete", name)
        rows = _mapping_rows(parts, caller, role_mappings)
    parts.disk.require()
    async with parts.database.write() as session:
        namespace = await _held(session, name)
        if metadata is not None:
            namespace.metadata_ = metadata
            record(session, caller, Action.NAMESPACE_DESCRIBE, name)
        if rows is not None:
            namespace.role_mappings = rows
            given = [f"{row.entity}: {row.role}" for row in rows][:MAPPINGS_NOTED]
            record(session, caller, Action.SHARE_REPLACE, name, details={"may": given})
    parts.identities.forget()


async def map_entity(
    parts: Parts, caller: Caller, name: str, entity: str, roles: Sequence[str]
) -> None:
    """Gives a namespace's users just these roles on an entity; what they may do elsewhere stays.

    Raises like `update_namespace`.
    """
    caller.require("namespace::update", name)
    caller.require("namespace-role-mapping::create", name)
    caller.require("namespace-role-mapping::delete", name)
    rows = _mapping_rows(parts, caller, {entity: roles})
    if rows:
        parts.disk.require()
    async with parts.database.write() as session:
        namespace = await _held(session, name)
        others = [row for row in namespace.role_mappings if row.entity != entity]
        namespace.role_mappings = others + rows
        details = {"on": entity, "may": [row.role for row in rows]}
        record(session, caller, Action.SHARE_REPLACE, name, details=details)
    parts.identities.forget()


async def _held(session: AsyncSession, name: str) -> Namespace:
    """Returns a namespace that nobody else changes before the transaction ends."""
    namespace = await session.scalar(
        select(Namespace)
        .where(Namespace.name == name, Namespace.deleted_on.is_(None))
        .options(selectinload(Namespace.role_mappings))
        .with_for_update()
    )
    if namespace is None:
        raise NotFound("namespace does not exist")
    return namespace


def _mapping_rows(
    parts: Parts, caller: Caller, role_mappings: Mapping[str, Sequence[str]]
) -> list[NamespaceRoleMapping]:
    policy = parts.identities.policy
    rows = []
    for entity, roles in role_mappings.items():
        check_pattern(entity)
        try:
            names = [policy.check_role(role) for role in roles]
        except InvalidInput:
            raise InvalidInput(f"invalid entity={list(roles)}") from None
        # An admin of one namespace must not make himself the admin of all.
        if not caller.may_grant(entity, policy.permissions(names)):
            raise Unauthorized
        rows += [NamespaceRoleMapping(entity=entity, role=role) for role in names]
    return rows


async def delete_namespace(parts: Parts, caller: Caller, name: str) -> int:
    """Marks a namespace and all that it holds as deleted, and queues the removal of the files.

    Returns the size of its builds in bytes.
    """
    caller.require("namespace::delete", name)
    async with parts.database.write() as session:
        namespace = await session.scalar(
            select(Namespace).where(Namespace.name == name, Namespace.deleted_on.is_(None))
        )
        if namespace is None:
            raise NotFound("namespace does not exist")
        namespace.deleted_on = utcnow()
        record(session, caller, Action.NAMESPACE_DELETE, name)
        environments = await session.scalars(
            select(Environment).where(Environment.namespace_id == namespace.id)
        )
        builds, canceled = await mark_deleted(session, environments.all())
        enqueue(session, "delete_namespace", name, payload={"namespace_id": namespace.id})
    await settle_canceled(parts, canceled)
    parts.pool.wake()
    return sum(build.size for build in builds)
