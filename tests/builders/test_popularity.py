"""The snapshot that the order of layers follows."""

from datetime import timedelta
from typing import Any

import pytest

from condastore import tables
from condastore.builders.popularity import LIFETIME, popularity
from condastore.database import Database
from condastore.packages import record_packages
from condastore.tables import utcnow
from tests.rows import add_build


def record(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1",
        "build": "0",
        "build_number": 0,
        "subdir": "linux-64",
        "channel": "https://channel.example",
        "sha256": name,
        "md5": "",
    }


async def build(database: Database, *names: str) -> None:
    build_id = await add_build(database)
    async with database.write() as session:
        await record_packages(session, build_id, [record(name) for name in names])


async def test_packages_are_counted_that_several_builds_have(database: Database) -> None:
    await build(database, "a", "b")
    await build(database, "a", "b", "c")
    await build(database, "a")
    assert await popularity(database) == {"a": 3, "b": 2}


async def test_the_count_stays_for_a_week(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await popularity(database) == {}
    await build(database, "a")
    await build(database, "a")
    now = utcnow()
    monkeypatch.setattr(tables, "utcnow", lambda: now + LIFETIME - timedelta(minutes=1))
    assert await popularity(database) == {}
    monkeypatch.setattr(tables, "utcnow", lambda: now + LIFETIME + timedelta(minutes=1))
    assert await popularity(database) == {"a": 2}
