"""What is written in one go: all of it or nothing, in its turn, and durable."""

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from condastore.changes import Change, Changes
from condastore.database import Database
from condastore.errors import DatabaseFull
from condastore.tables import KeyValueStore
from tests.databases import URLS, opened
from tests.patience import PATIENCE_S

_TABLE = cast(Table, KeyValueStore.__table__)
ADD = Change(
    insert(_TABLE)
    .values(prefix="p", key=bindparam("name"), value=bindparam("with"))
    .returning(_TABLE.c.id, _TABLE.c.value)
)
# Locks the row until the transaction ends, and says its value.
HOLD = Change(update(_TABLE).values(prefix="p").returning(_TABLE.c.value))
SET = Change(update(_TABLE).values(value=bindparam("with")))


def add(changes: Changes, *names: str) -> list[tuple[Any, ...]]:
    return [changes.make(ADD, {"name": name, "with": {"of": [name]}})[0] for name in names]


async def keys(database: Database) -> set[str]:
    async with database.read() as session:
        return set(await session.scalars(select(KeyValueStore.key)))


async def test_a_change_says_what_it_made(database: Database) -> None:
    added = await database.change(lambda changes: add(changes, "x", "ä"))
    assert added == [(1, {"of": ["x"]}), (2, {"of": ["ä"]})]
    generation = database.generation
    assert await database.change(lambda changes: changes.make(SET, {"with": None})) == []
    assert database.generation > generation
    async with database.read() as session:
        assert (await session.scalars(select(KeyValueStore.value))).all() == [None, None]


async def test_an_error_takes_everything_back_and_reaches_who_asked(database: Database) -> None:
    def fail(changes: Changes) -> None:
        add(changes, "x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.change(fail)
    with pytest.raises((sqlite3.Error, SQLAlchemyError)):
        await database.change(lambda changes: add(changes, "y", "y"))
    await database.change(lambda changes: add(changes, "z"))
    assert await keys(database) == {"z"}


async def test_changes_and_sessions_take_turns(database: Database) -> None:
    def by_change(changes: Changes) -> None:
        [(value,)] = changes.make(HOLD, {})
        changes.make(SET, {"with": value + 1})

    async def by_session() -> None:
        async with database.write() as session:
            row = await session.scalar(select(KeyValueStore).with_for_update())
            assert row is not None
            row.value += 1

    await database.change(lambda changes: changes.make(ADD, {"name": "n", "with": 0}))
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(by_session())
            group.create_task(database.change(by_change))
    async with database.read() as session:
        assert await session.scalar(select(KeyValueStore.value)) == 40


async def test_a_change_that_is_cancelled_anywhere_is_whole_or_not_there(
    database: Database,
) -> None:
    """And the next one is not held up."""
    for number in range(40):
        writing = asyncio.create_task(add_pair(database, f"{number}-cut"))
        await asyncio.sleep(number * 0.0001)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        async with asyncio.timeout(PATIENCE_S):
            await add_pair(database, f"{number}-next")
    found = await keys(database)
    for number in range(40):
        assert {f"{number}-next-a", f"{number}-next-b"} <= found
        assert (f"{number}-cut-a" in found) == (f"{number}-cut-b" in found)


async def add_pair(database: Database, name: str) -> None:
    await database.change(lambda changes: add(changes, f"{name}-a", f"{name}-b"))


async def test_a_full_disk_is_told_as_such_and_nothing_is_half_written(tmp_path: Path) -> None:
    def limit(changes: Changes, pages: int) -> None:
        connection: sqlite3.Connection = changes._connection  # type: ignore[attr-defined]
        connection.execute(f"PRAGMA max_page_count={pages}")

    def add_large(changes: Changes, name: str) -> None:
        add(changes, name)
        changes.make(SET, {"with": "x" * 1_000_000})

    full: list[bool] = []
    async with opened(URLS["sqlite"](tmp_path)) as database:
        database.on_full = lambda: full.append(True)
        await database.change(lambda changes: limit(changes, 1))
        with pytest.raises(DatabaseFull):
            await database.change(lambda changes: add_large(changes, "x"))
        assert full == [True]
        await database.change(lambda changes: limit(changes, 1_000_000))
        await database.change(lambda changes: add_large(changes, "y"))
        assert await keys(database) == {"y"}


async def test_a_database_that_is_closed_says_so_after_what_was_asked_before(
    tmp_path: Path,
) -> None:
    database = Database(URLS["sqlite"](tmp_path))
    await database.open()
    before = asyncio.create_task(database.change(lambda changes: add(changes, "x")))
    await asyncio.sleep(0)
    async with asyncio.timeout(PATIENCE_S):
        await database.close()
        assert await before
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            await database.change(lambda changes: add(changes, "y"))
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            await database.view(lambda view: None)
