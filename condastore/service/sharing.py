"""Who can do what in a namespace, and why; and the giving and taking of roles in it."""

from dataclasses import dataclass

from sqlalchemy import select

from condastore.access import Caller, matches
from condastore.errors import Conflict, InvalidInput
from condastore.service import namespaces, roles
from condastore.service.pages import PageRequest
from condastore.service.parts import Parts
from condastore.service.tokens import TokenRecord, list_tokens
from condastore.tables import Namespace, NamespaceRoleMapping

TOKENS = 200


@dataclass(frozen=True)
class Access:
    """One reason why somebody can do something in a namespace."""

    who: str
    roles: tuple[str, ...]
    where: str
    """The pattern that the roles are on."""
    why: str
    other: str | None = None
    """The namespace whose users have it, where it can be taken back here."""
    token_id: int | None = None


async def access(parts: Parts, caller: Caller, name: str) -> list[Access]:
    """Returns every reason that the configuration, the database and tokens give.

    What the login gives somebody only shows when he has signed in: in the tokens.
    """
    caller.require("namespace::read", name)
    caller.require("namespace-role-mapping::read", name)
    policy = parts.identities.policy
    found = [
        Access("Everybody, without signing in", given, pattern, "configured for all")
        for pattern, given in policy.unauthenticated.items()
        if matches(pattern, name)
    ]
    found += [
        Access("Everybody who has signed in", given, pattern, "configured for all")
        for pattern, given in policy.authenticated.items()
        if matches(pattern, name)
    ]
    if parts.identities.role_mappings_version == 1:
        found += await _mapped(parts, name)
    else:
        for role in await roles.list_roles(parts, caller, name):
            who = f"Users of the namespace {role.other_namespace}"
            where = f"{name}/*"
            found.append(
                Access(who, (role.role,), where, "granted here", other=role.other_namespace)
            )
    return found + await _by_token(parts, caller, name)


async def _mapped(parts: Parts, name: str) -> list[Access]:
    query = (
        select(Namespace.name, NamespaceRoleMapping.entity, NamespaceRoleMapping.role)
        .join(Namespace, Namespace.id == NamespaceRoleMapping.namespace_id)
        .where(Namespace.deleted_on.is_(None))
        .order_by(Namespace.name, NamespaceRoleMapping.id)
    )
    async with parts.database.read() as session:
        rows = (await session.execute(query)).tuples().all()
    return [
        Access(
            f"Users of the namespace {other}",
            (role,),
            entity,
            "a role mapping of their namespace",
            other=other if entity == f"{name}/*" else None,
        )
        for other, entity, role in rows
        if matches(entity, name)
    ]


async def _by_token(parts: Parts, caller: Caller, name: str) -> list[Access]:
    if caller.user is None and not caller.allows("setting::update", ""):
        return []
    request = PageRequest(1, TOKENS, ["id"], descending=True)
    tokens = await list_tokens(parts, caller, request)
    found = [
        _of_token(row, pattern, tuple(given))
        for row in tokens.rows
        for pattern, given in row.role_bindings.items()
        if matches(pattern, name)
    ]
    # Somebody signs in on many machines.
    return list(dict.fromkeys(found))


def _of_token(row: TokenRecord, pattern: str, given: tuple[str, ...]) -> Access:
    owner = row.owner or "an administrator"
    if row.is_login:
        return Access(owner, given, pattern, "has signed in")
    who = f"Whoever holds token {row.id} of {owner}"
    return Access(who, given, pattern, "a token", token_id=row.id)


async def grant(parts: Parts, caller: Caller, name: str, other: str, role: str) -> None:
    """Gives the users of another namespace a role in this one, instead of the one they have.

    Raises `InvalidInput`, `NotFound`, and `Unauthorized`, also for rights that the caller lacks.
    """
    if parts.identities.role_mappings_version == 1:
        await _map(parts, caller, name, other, [role])
        return
    try:
        await roles.create_role(parts, caller, name, other, role)
    except Conflict:
        await roles.update_role(parts, caller, name, other, role)


async def withdraw(parts: Parts, caller: Caller, name: str, other: str) -> None:
    """Takes the role back that the users of another namespace have in this one."""
    if parts.identities.role_mappings_version == 1:
        await _map(parts, caller, name, other, [])
    else:
        await roles.delete_role(parts, caller, name, other)


async def _map(parts: Parts, caller: Caller, name: str, other: str, given: list[str]) -> None:
    """Version 1 keeps what the users of a namespace may do with that namespace."""
    caller.require("namespace-role-mapping::create", name)
    if name == other:
        raise InvalidInput("choose another namespace than this one")
    await namespaces.map_entity(parts, caller, other, f"{name}/*", given)
