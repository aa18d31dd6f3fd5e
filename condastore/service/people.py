"""Who uses the daemon, as administrators see it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from condastore.access import Caller
from condastore.service.pages import Page
from condastore.service.parts import Parts
from condastore.tables import (
    Namespace,
    NamespaceRoleMapping,
    NamespaceRoleMappingV2,
    Person,
    Token,
    utcnow,
)


@dataclass(frozen=True)
class Right:
    """Roles on a pattern, and why somebody has them."""

    pattern: str
    roles: tuple[str, ...]
    why: str


@dataclass
class User:
    """Somebody who has signed in, holds tokens, or has been given a role."""

    name: str
    signed_in_on: datetime | None = None
    seen_on: datetime | None = None
    sessions: int = 0
    """Sign-ins that have not ended."""
    tokens: int = 0
    """Minted tokens that are still good."""
    rights: list[Right] = field(default_factory=list)


async def list_users(
    parts: Parts, caller: Caller, *, page: int, size: int, search: str = ""
) -> Page[User]:
    """Returns a page of users by name, for who may change the settings of the whole daemon."""
    caller.require("setting::update", "")
    async with parts.database.read() as session:
        names = [n for n in sorted(await _names(session, parts)) if search.lower() in n.lower()]
        users = {name: User(name) for name in names[(page - 1) * size : page * size]}
        await _add_sign_ins(session, users)
        await _add_tokens(session, users)
        for name, right in await _granted(session, parts, users):
            users[name].rights.append(right)
    for name, moment in parts.identities.seen.items():
        user = users.get(name)
        if user is not None and (user.seen_on is None or user.seen_on < moment):
            user.seen_on = moment
    return Page(list(users.values()), page, size, len(names))


async def _names(session: AsyncSession, parts: Parts) -> set[str]:
    """Returns the names of all: thousands are a moment."""
    names = set(await session.scalars(select(Person.name)))
    names |= {owner for owner in await session.scalars(select(Token.owner).distinct()) if owner}
    if parts.identities.role_mappings_version == 1:
        mapped = select(Namespace.name).join(
            NamespaceRoleMapping, NamespaceRoleMapping.namespace_id == Namespace.id
        )
    else:
        mapped = select(Namespace.name).join(
            NamespaceRoleMappingV2, NamespaceRoleMappingV2.other_namespace_id == Namespace.id
        )
    return names | set(await session.scalars(mapped.where(Namespace.deleted_on.is_(None))))


async def _add_sign_ins(session: AsyncSession, users: dict[str, User]) -> None:
    for person in await session.scalars(select(Person).where(Person.name.in_(users))):
        user = users[person.name]
        user.signed_in_on, user.seen_on = person.signed_in_on, person.seen_on
        user.rights += [
            Right(pattern, tuple(roles), "by the login")
            for pattern, roles in person.role_bindings.items()
        ]


async def _add_tokens(session: AsyncSession, users: dict[str, User]) -> None:
    good = (
        Token.owner.in_(users),
        Token.revoked_on.is_(None),
        Token.expires_on > utcnow(),
    )
    query = select(Token.owner, Token.is_login, func.count()).where(*good)
    grouped = await session.execute(query.group_by(Token.owner, Token.is_login))
    for owner, is_login, count in grouped:
        user = users[owner or ""]
        if is_login:
            user.sessions = count
        else:
            user.tokens = count


async def _granted(
    session: AsyncSession, parts: Parts, names: Iterable[str]
) -> list[tuple[str, Right]]:
    """Returns what role mappings give to users, by their name."""
    if parts.identities.role_mappings_version == 1:
        query = (
            select(Namespace.name, NamespaceRoleMapping.entity, NamespaceRoleMapping.role)
            .join(NamespaceRoleMapping, NamespaceRoleMapping.namespace_id == Namespace.id)
            .where(Namespace.name.in_(names), Namespace.deleted_on.is_(None))
            .order_by(NamespaceRoleMapping.id)
        )
        rows = (await session.execute(query)).all()
        return [(name, Right(entity, (role,), "granted")) for name, entity, role in rows]
    opened, theirs = aliased(Namespace), aliased(Namespace)
    mapping = NamespaceRoleMappingV2
    second = (
        select(theirs.name, opened.name, mapping.role)
        .join(theirs, theirs.id == mapping.other_namespace_id)
        .join(opened, opened.id == mapping.namespace_id)
        .where(theirs.name.in_(names), theirs.deleted_on.is_(None))
        .order_by(mapping.id)
    )
    found = (await session.execute(second)).all()
    return [
        (name, Right(f"{where}/*", (role,), f"granted by {where}")) for name, where, role in found
    ]
