"""What is noted from time to time: bounded, and once even where several daemons note."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from sqlalchemy import select

from condastore.access import ADMINISTRATOR
from condastore.builds import BuildStatus
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.prefixes import Store
from condastore.service.chronicle import OTHERS, disk_history, note_seen, sample
from condastore.service.parts import Parts
from condastore.tables import Build, Person, UsageSample, utcnow
from tests.rows import add_build

NOON = datetime(2026, 6, 15, 12, 30)


@pytest.fixture
def parts(database: Database, tmp_path: Path) -> Parts:
    """As much of a daemon's parts as these need."""
    config = CondaStore(data_directory=str(tmp_path))
    store = Store(tmp_path, "", "")
    identities = SimpleNamespace(seen={})
    found = SimpleNamespace(database=database, config=config, store=store, identities=identities)
    return cast(Parts, found)


async def times(database: Database) -> list[datetime]:
    async with database.read() as session:
        query = select(UsageSample.taken_on).distinct().order_by(UsageSample.taken_on)
        return list(await session.scalars(query))


async def test_the_disk_is_noted_once_an_hour(parts: Parts) -> None:
    for namespace, size in (("ada", 5), ("lab", 3_000_000_000)):
        build_id = await add_build(
            parts.database, status=BuildStatus.COMPLETED, namespace=namespace, current=True
        )
        async with parts.database.write() as session:
            build = await session.get(Build, build_id)
            assert build is not None
            build.size = size
    for minutes in (0, 10, 40):
        await sample(parts, NOON + timedelta(minutes=minutes))
    history = await disk_history(parts, ADMINISTRATOR)
    assert history.times == [NOON.replace(minute=0), NOON.replace(hour=13, minute=0)]
    assert [(line.name, list(line.bytes)) for line in history.lines] == [
        ("lab", [3_000_000_000] * 2),
        ("ada", [5] * 2),
    ]
    assert all(history.disk.bytes)


async def test_old_samples_are_thinned_out(parts: Parts) -> None:
    async with parts.database.write() as session:
        for hours in range(0, 24 * 5, 6):
            taken_on = NOON.replace(minute=0) - timedelta(hours=hours + 1)
            session.add(UsageSample(taken_on=taken_on, namespace=OTHERS, bytes=hours + 1))
        old = NOON - timedelta(days=500)
        session.add(UsageSample(taken_on=old, namespace=OTHERS, bytes=1))
    await sample(parts, NOON)
    found = await times(parts.database)
    days = [moment.date() for moment in found if moment < NOON - timedelta(days=2)]
    assert len(days) == len(set(days)) == 4
    assert len([moment for moment in found if moment >= NOON - timedelta(days=2)]) == 9
    assert (await disk_history(parts, ADMINISTRATOR)).lines[0].name == OTHERS


async def test_who_was_seen_is_noted_for_those_who_have_signed_in(parts: Parts) -> None:
    before, now = utcnow() - timedelta(days=3), utcnow()
    async with parts.database.write() as session:
        session.add(Person(name="ada", signed_in_on=before, seen_on=before, role_bindings={}))
        session.add(Person(name="bob", signed_in_on=before, seen_on=before, role_bindings={}))
    parts.identities.seen = {"ada": now, "admin token": now}
    await note_seen(parts)
    assert parts.identities.seen == {}
    async with parts.database.read() as session:
        rows = await session.execute(select(Person.name, Person.seen_on).order_by(Person.name))
        assert [tuple(row) for row in rows] == [("ada", now), ("bob", before)]
