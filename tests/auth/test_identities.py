"""Who a token stands for, and what that is worth now."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import func, select

from condastore.access import ADMINISTRATOR, DEFAULT_ROLES, AccessPolicy, Bindings
from condastore.auth import AdminToken, Identities, Identity, TokenSigner
from condastore.database import Database
from condastore.tables import (
    Namespace,
    NamespaceRoleMapping,
    NamespaceRoleMappingV2,
    Person,
    Token,
)

KEY = "a key of the tests that is long enough"
POLICY = AccessPolicy.of(DEFAULT_ROLES, {"default/*": ["viewer"]}, {"shared/*": ["viewer"]})
ADA = Identity("ada", {"ada/*": ("admin",)})
SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)


def identities(database: Database, version: int = 1) -> Identities:
    return Identities(
        database,
        POLICY,
        TokenSigner(KEY, "HS256", POLICY),
        AdminToken(KEY),
        predefined_tokens={
            "robot": {"primary_namespace": "bots", "role_bindings": {"lab/*": ["viewer"]}}
        },
        default_namespace="default",
        role_mappings_version=version,
    )


async def test_nobody_sees_only_what_is_open(database: Database) -> None:
    for token in (None, "", "nonsense"):
        caller = await identities(database).caller(token)
        assert not caller.authenticated
        assert (caller.primary_namespace, caller.bindings) == (
            "default",
            {"default/*": ("viewer",)},
        )


async def test_the_admin_token_may_everything(database: Database) -> None:
    found = identities(database)
    assert await found.caller(found.admin_token.text) is ADMINISTRATOR


async def test_a_predefined_token(database: Database) -> None:
    caller = await identities(database).caller("robot")
    assert caller.primary_namespace == "bots"
    assert caller.bindings == {"shared/*": ("viewer",), "lab/*": ("viewer",)}


async def test_who_signs_in_has_his_own_and_everybodys(database: Database) -> None:
    found = identities(database)
    token, expires = await found.log_in(ADA, 60)
    caller = await found.caller(token)
    assert (caller.user, caller.primary_namespace, caller.expiration) == ("ada", "ada", expires)
    assert caller.bindings == {"shared/*": ("viewer",), "ada/*": ("admin",)}


async def test_a_token_that_is_revoked_while_it_is_looked_up_is_not_remembered(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = identities(database)
    token, _ = await found.log_in(ADA, 60)
    granted, looked, go_on = found._granted, asyncio.Event(), asyncio.Event()

    async def held(namespace: str) -> Bindings:
        rights = await granted(namespace)
        looked.set()
        await go_on.wait()
        return rights

    monkeypatch.setattr(found, "_granted", held)
    looking = asyncio.create_task(found.caller(token))
    await looked.wait()
    await found.revoke(token)
    go_on.set()
    assert (await looking).authenticated
    assert not (await found.caller(token)).authenticated


async def test_who_signs_in_for_the_first_time_may_do_so_in_several_places(
    database: Database,
) -> None:
    found = identities(database)
    signed_in = await asyncio.gather(*(found.log_in(ADA, 60) for _ in range(8)))
    for token, _ in signed_in:
        assert (await found.caller(token)).user == "ada"
    other = Identity("ada", {"ada/*": ("viewer",)})
    await found.log_in(other, 60)
    async with database.read() as session:
        [person] = await session.scalars(select(Person))
    assert (person.name, person.role_bindings) == ("ada", {"ada/*": ["viewer"]})
    assert person.signed_in_on == person.seen_on


async def test_a_revoked_token_is_worth_nothing_at_once(database: Database) -> None:
    found = identities(database)
    token, _ = await found.log_in(ADA, 60)
    other, _ = await found.log_in(ADA, 60)
    assert (await found.caller(token)).authenticated
    await found.revoke(token)
    assert not (await found.caller(token)).authenticated
    assert not (await identities(database).caller(token)).authenticated
    assert (await found.caller(other)).authenticated


async def test_a_token_whose_row_is_gone_is_worth_nothing(database: Database) -> None:
    found = identities(database)
    token, _ = await found.log_in(ADA, 60)
    async with database.write() as session:
        await session.delete(await session.get_one(Token, 1))
    assert not (await found.caller(token)).authenticated


async def test_what_has_ended_leaves_no_row(database: Database) -> None:
    found = identities(database)
    await found.log_in(ADA, -60)
    await found.log_in(ADA, 60)
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Token)) == 1


async def test_nobody_in_particular_leaves_no_row(database: Database) -> None:
    found = identities(database)
    for _ in range(3):
        await found.mint(found.anonymous, "default", found.anonymous.bindings, SOON)
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Token)) == 0


async def test_the_text_of_a_token_is_not_kept(database: Database) -> None:
    token, _ = await identities(database).log_in(ADA, 60)
    async with database.read() as session:
        row = await session.get_one(Token, 1)
    assert (row.owner, row.is_login, row.role_bindings) == ("ada", True, {"ada/*": ["admin"]})
    assert all(token not in str(value) for value in vars(row).values())


@pytest.mark.parametrize(
    ("version", "granted"), [(1, {"lab/*": ("developer",)}), (2, {"open/*": ("viewer",)})]
)
async def test_role_mappings_count_in_the_configured_version(
    database: Database, version: int, granted: Bindings
) -> None:
    async with database.write() as session:
        ada = Namespace(name="ada")
        ada.role_mappings.append(NamespaceRoleMapping(entity="lab/*", role="developer"))
        opened = Namespace(name="open")
        session.add_all([ada, opened])
        await session.flush()
        session.add(
            NamespaceRoleMappingV2(namespace_id=opened.id, other_namespace_id=ada.id, role="viewer")
        )
    found = identities(database, version)
    token, _ = await found.log_in(ADA, 60)
    caller = await found.caller(token)
    assert caller.bindings == {"shared/*": ("viewer",), "ada/*": ("admin",), **granted}


async def test_a_minted_token_gains_nothing_later(database: Database) -> None:
    """What is granted to its maker afterwards is not part of what was given away."""
    found = identities(database)
    login, _ = await found.log_in(ADA, 60)
    token = await found.mint(await found.caller(login), "ada", {"ada/x": ("viewer",)}, SOON)
    async with database.write() as session:
        ada = Namespace(name="ada")
        ada.role_mappings.append(NamespaceRoleMapping(entity="*/*", role="admin"))
        session.add(ada)
    caller = await found.caller(token)
    assert caller.bindings == {"shared/*": ("viewer",), "ada/x": ("viewer",)}
    assert (caller.user, caller.expiration) == (None, SOON)


async def test_a_token_that_nobody_minted_is_worth_no_more_than_nobody(database: Database) -> None:
    found = identities(database)
    token = await found.mint(found.anonymous, "default", found.anonymous.bindings, SOON)
    assert (await found.caller(token)).bindings == {"default/*": ("viewer",)}
    wider = await found.mint(found.anonymous, "default", {"*/*": ("admin",)}, SOON)
    assert (await found.caller(wider)).bindings == {}
