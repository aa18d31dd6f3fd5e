"""The audit log is written with the change, and bounded."""

from datetime import timedelta

import pytest
from sqlalchemy import select

from condastore import correlation
from condastore.access import ADMINISTRATOR
from condastore.audit import Action, prune, record
from condastore.database import Database
from condastore.http.request_ids import _ID
from condastore.tables import AuditEntry, utcnow


async def entries(database: Database) -> list[AuditEntry]:
    async with database.read() as session:
        return list(await session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


async def test_an_entry_is_there_if_the_change_is(database: Database) -> None:
    with pytest.raises(RuntimeError):
        async with database.write() as session:
            record(session, ADMINISTRATOR, Action.NAMESPACE_CREATE, "lost")
            await session.flush()
            raise RuntimeError
    correlation.via.set("api")
    correlation.request_id.set("0123abcd")
    async with database.write() as session:
        details = {"to": "other", "role": "viewer"}
        record(session, ADMINISTRATOR, Action.SHARE_GRANT, "lab", details=details)
    [entry] = await entries(database)
    assert (entry.actor, entry.token_id, entry.action) == ("admin token", None, "share.grant")
    assert (entry.namespace, entry.environment, entry.build_id) == ("lab", None, None)
    assert (entry.via, entry.request_id, entry.details) == ("api", "0123abcd", details)


async def test_the_longest_request_id_of_a_proxy_fits(database: Database) -> None:
    """Otherwise PostgreSQL would refuse the change itself."""
    longest = "f" * 64
    assert _ID.fullmatch(longest) and not _ID.fullmatch(longest + "f")
    correlation.request_id.set(longest)
    async with database.write() as session:
        record(session, ADMINISTRATOR, Action.NAMESPACE_CREATE, "lab")
    assert [entry.request_id for entry in await entries(database)] == [longest]


async def test_what_is_too_old_and_too_much_goes(database: Database) -> None:
    async with database.write() as session:
        for number in range(10):
            age = timedelta(days=10 - number)
            session.add(
                AuditEntry(actor=str(number), action="x", via="api", made_on=utcnow() - age)
            )
            await session.flush()
    async with database.write() as session:
        await prune(session, days=8, entries=100)
    assert [entry.actor for entry in await entries(database)] == list("3456789")
    async with database.write() as session:
        await prune(session, days=8, entries=2)
    assert [entry.actor for entry in await entries(database)] == list("89")


async def test_failed_sign_ins_take_nothing_elses_place(database: Database) -> None:
    async with database.write() as session:
        for number in range(60):
            action = Action.NAMESPACE_CREATE if number % 6 == 0 else Action.LOGIN_FAIL
            session.add(AuditEntry(actor=str(number), action=action, via="api"))
            await session.flush()
    async with database.write() as session:
        await prune(session, days=8, entries=10)
    kept = [int(entry.actor) for entry in await entries(database)]
    assert kept == [*range(0, 60, 6), 59]
