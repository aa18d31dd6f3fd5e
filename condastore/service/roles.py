"""Who may do what in a namespace: role mappings version 2 (rest-api §4.3)."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from condastore.access import Caller
from condastore.audit import Action, record
from condastore.errors import Conflict, InvalidInput, NotFound, Unauthorized
from condastore.names import shorten
from condastore.service.parts import Parts
from condastore.tables import Namespace, NamespaceRoleMappingV2


@dataclass(frozen=True)
class NamespaceRole:
    """What the users of a namespace may do in another one."""

    id: int
    namespace: str
    other_namespace: str
    role: str


async def list_roles(parts: Parts, caller: Caller, name: str) -> list[NamespaceRole]:
    """Returns who else may do what in a namespace. Raises `NotFound`."""
    _require(caller, "read", name)
    async with parts.database.read() as session:
        await _namespace_id(session, name)
        return await _roles(session, name)


async def get_role(parts: Parts, caller: Caller, name: str, other: str) -> NamespaceRole:
    """Returns what the users of another namespace may do. Raises `NotFound`, `InvalidInput`."""
    _require(caller, "read", name)
    async with parts.database.read() as session:
        await _pair(session, name, other)
        roles = await _roles(session, name, other)
    if not roles:
        raise NotFound("failed to find role")
    return roles[0]


async def create_role(parts: Parts, caller: Caller, name: str, other: str, role: str) -> None:
    """Opens a namespace to the users of another one.

    Raises `NotFound`, `InvalidInput`, or `Conflict` if it is open to them.
    """
    _require(caller, "create", name)
    parts.disk.require()
    async with parts.database.write() as session:
        namespace_id, other_id = await _pair(session, name, other)
        role = _grantable(parts, caller, name, role)
        if await _roles(session, name, other):
            raise Conflict(f"namespace {other} has a role in {name} already")
        session.add(
            NamespaceRoleMappingV2(
                namespace_id=namespace_id, other_namespace_id=other_id, role=role
            )
        )
        record(session, caller, Action.SHARE_GRANT, name, details={"to": other, "role": role})
    parts.identities.forget()


async def update_role(parts: Parts, caller: Caller, name: str, other: str, role: str) -> None:
    """Changes what the users of another namespace may do. Raises as `create_role`."""
    _require(caller, "update", name)
    parts.disk.require()
    async with parts.database.write() as session:
        namespace_id, other_id = await _pair(session, name, other)
        role = _grantable(parts, caller, name, role)
        row = await session.scalar(
            select(NamespaceRoleMappingV2).where(*_key(namespace_id, other_id))
        )
        if row is None:
            raise NotFound("failed to find role")
        row.role = role
        record(session, caller, Action.SHARE_GRANT, name, details={"to": other, "role": role})
    parts.identities.forget()


async def delete_role(parts: Parts, caller: Caller, name: str, other: str) -> None:
    """Closes a namespace to the users of another one, if it was open to them."""
    _require(caller, "delete", name)
    async with parts.database.write() as session:
        await session.execute(
            delete(NamespaceRoleMappingV2).where(*_key(*await _pair(session, name, other)))
        )
        record(session, caller, Action.SHARE_WITHDRAW, name, details={"from": other})
    parts.identities.forget()


async def delete_roles(parts: Parts, caller: Caller, name: str) -> None:
    """Closes a namespace to everybody else."""
    _require(caller, "delete", name)
    async with parts.database.write() as session:
        namespace_id = await _namespace_id(session, name)
        await session.execute(
            delete(NamespaceRoleMappingV2).where(
                NamespaceRoleMappingV2.namespace_id == namespace_id
            )
        )
        record(session, caller, Action.SHARE_WITHDRAW, name, details={"from": "everybody"})
    parts.identities.forget()


def _require(caller: Caller, what: str, name: str) -> None:
    caller.require("namespace::read", name)
    caller.require(f"namespace-role-mapping::{what}", name)


def _grantable(parts: Parts, caller: Caller, name: str, role: str) -> str:
    """Nobody gives away more than he has."""
    role = parts.identities.policy.check_role(role)
    if not caller.may_grant(f"{name}/*", parts.identities.policy.permissions([role])):
        raise Unauthorized
    return role


def _key(namespace_id: int, other_id: int) -> tuple[Any, ...]:
    return (
        NamespaceRoleMappingV2.namespace_id == namespace_id,
        NamespaceRoleMappingV2.other_namespace_id == other_id,
    )


async def _namespace_id(session: AsyncSession, name: str) -> int:
    found = await session.scalar(
        select(Namespace.id).where(Namespace.name == name, Namespace.deleted_on.is_(None))
    )
    if found is None:
        raise NotFound("namespace does not exist")
    return found


async def _pair(session: AsyncSession, name: str, other: str) -> tuple[int, int]:
    namespace_id = await _namespace_id(session, name)
    try:
        return namespace_id, await _namespace_id(session, other)
    except NotFound:
        raise InvalidInput(f"Namespace='{shorten(other)}' not found") from None


async def _roles(session: AsyncSession, name: str, other: str | None = None) -> list[NamespaceRole]:
    opened, theirs = aliased(Namespace), aliased(Namespace)
    mapping = NamespaceRoleMappingV2
    query = (
        select(mapping.id, opened.name, theirs.name, mapping.role)
        .join(opened, opened.id == mapping.namespace_id)
        .join(theirs, theirs.id == mapping.other_namespace_id)
        .where(opened.name == name)
        .order_by(mapping.id)
    )
    if other is not None:
        query = query.where(theirs.name == other)
    return [NamespaceRole(*row) for row in await session.execute(query)]
