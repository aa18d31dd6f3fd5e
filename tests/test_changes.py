"""Single statements: in their turn, durable when they are told, and no matter to each other."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Table, bindparam, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from condastore.changes import Change, SqliteChanges
from condastore.database import Database
from condastore.errors import DatabaseFull, DatabaseUnavailable
from condastore.statements import SQLITE
from condastore.tables import KeyValueStore, Task, TaskState
from condastore.views import Rows, Statement
from tests.databases import URLS, opened, traced
from tests.patience import PATIENCE_S

_TABLE = cast(Table, KeyValueStore.__table__)
_TASKS = cast(Table, Task.__table__)
ADD = Change(
    insert(_TABLE)
    .values(prefix="p", key=bindparam("name"), value=bindparam("with"))
    .returning(_TABLE.c.id, _TABLE.c.value)
)
SET = Change(update(_TABLE).values(value=bindparam("with")))
NAME = Change(
    update(_TABLE).where(_TABLE.c.value == bindparam("old")).values(value=7).returning(_TABLE.c.key)
)
LATER = Change(
    update(_TASKS)
    .values(not_before=_TASKS.c.not_before + 1.5)
    .returning(_TASKS.c.not_before, _TASKS.c.state)
)
COUNT = Change(update(_TASKS).values(attempts=_TASKS.c.attempts + 1))
KEYS = Statement(select(_TABLE.c.key))


async def add(database: Database, name: str, value: Any = 0) -> Rows:
    return await database.change(ADD, {"name": name, "with": value})


async def keys(database: Database) -> set[str]:
    async with database.read() as session:
        return set(await session.scalars(select(KeyValueStore.key)))


def kept_keys(database: Database) -> set[str]:
    """What another program finds in the file."""
    with closing(sqlite3.connect(database._url.database or "")) as connection:
        return {row[0] for row in connection.execute("SELECT key FROM keyvaluestore")}


async def of_writer(database: Database, pragma: str) -> None:
    assert isinstance(database._changes, SqliteChanges)
    await database._changes._thread.do(lambda connection: connection.execute(f"PRAGMA {pragma}"))


async def test_a_change_says_what_it_made(database: Database) -> None:
    assert await add(database, "x", {"of": ["ä"]}) == [(1, {"of": ["ä"]})]
    assert await add(database, "y", None) == [(2, None)]
    generation = database.generation
    assert await database.change(SET, {"with": "'%s $1 ?"}) == []
    assert database.generation > generation
    async with database.read() as session:
        assert (await session.scalars(select(KeyValueStore.value))).all() == ["'%s $1 ?"] * 2


async def test_a_change_says_numbers_as_numbers(database: Database) -> None:
    async with database.write() as session:
        session.add(Task(kind="short", namespace="n", payload={}, not_before=0.0))
    [(when, state)] = await database.change(LATER, {})
    assert (type(when), when, state) == (float, 1.5, TaskState.QUEUED)


async def test_an_error_reaches_who_asked_and_nobody_else(database: Database) -> None:
    names = ["a", "x", "x", "b", "x", "c"]
    made = await asyncio.gather(*(add(database, name) for name in names), return_exceptions=True)
    failed = [each for each in made if isinstance(each, Exception)]
    assert len(failed) == 2
    assert all(isinstance(each, sqlite3.IntegrityError | SQLAlchemyError) for each in failed)
    assert await keys(database) == {"a", "b", "c", "x"}
    with pytest.raises((TypeError, SQLAlchemyError)):
        await add(database, "y", object())
    await add(database, "z")
    assert await keys(database) == {"a", "b", "c", "x", "z"}


async def test_changes_and_sessions_take_turns(database: Database) -> None:
    async def by_session() -> None:
        async with database.write() as session:
            row = await session.scalar(select(Task).with_for_update())
            assert row is not None
            row.attempts += 1

    async with database.write() as session:
        session.add(Task(kind="short", namespace="n", payload={}, attempts=0))
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(by_session())
            group.create_task(database.change(COUNT, {}))
    async with database.read() as session:
        assert await session.scalar(select(Task.attempts)) == 40


async def test_those_who_wait_together_wait_for_the_disk_once(tmp_path: Path) -> None:
    async with opened(URLS["sqlite"](tmp_path)) as database:

        async def add_and_look(name: str) -> None:
            await add(database, name)
            assert name in kept_keys(database)

        statements = await traced(database)
        async with asyncio.TaskGroup() as group, database.write():
            # They wait together for the end of this transaction.
            for number in range(50):
                group.create_task(add_and_look(str(number)))
            await asyncio.sleep(0)
    assert statements.count("COMMIT") == 1
    assert sum(each.startswith("INSERT") for each in statements) == 50


async def test_a_change_that_is_cancelled_anywhere_holds_up_nobody_and_is_seen(
    database: Database,
) -> None:
    async def seen() -> set[str]:
        return await database.view(
            lambda view: view.kept(KEYS, {}, lambda rows: {row[0] for row in rows})
        )

    for number in range(40):
        writing = asyncio.create_task(add(database, f"{number}-cut"))
        await asyncio.sleep(number * 0.0001)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        await seen()
        async with asyncio.timeout(PATIENCE_S):
            while await keys(database) != await seen():  # noqa: ASYNC110 - it may still commit
                await asyncio.sleep(0.001)
            await add(database, f"{number}-next")
    assert {f"{number}-next" for number in range(40)} <= await keys(database)


async def test_what_the_disk_can_not_take_is_told_to_who_asked_for_it(tmp_path: Path) -> None:
    full: list[bool] = []
    async with opened(URLS["sqlite"](tmp_path)) as database:
        database.on_full = lambda: full.append(True)
        await of_writer(database, "max_page_count=1")
        sizes = {"a": 1, "x": 1_000_000, "b": 1, "y": 1_000_000}
        made = await asyncio.gather(
            *(add(database, name, "x" * size) for name, size in sizes.items()),
            return_exceptions=True,
        )
        assert [type(each) for each in made] == [list, DatabaseFull, list, DatabaseFull]
        assert full == [True] * 2
        assert kept_keys(database) == {"a", "b"}
        await of_writer(database, "max_page_count=1000000")
        await add(database, "y", "x" * 1_000_000)
        assert await keys(database) == {"a", "b", "y"}


async def test_a_database_that_somebody_else_holds_is_told_to_all_at_once(tmp_path: Path) -> None:
    async with opened(URLS["sqlite"](tmp_path)) as database:
        await of_writer(database, "busy_timeout=200")
        with closing(sqlite3.connect(database._url.database or "")) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            made = await asyncio.gather(
                *(add(database, str(number)) for number in range(20)), return_exceptions=True
            )
            taken_s = time.monotonic() - began
        assert [type(each) for each in made] == [DatabaseUnavailable] * 20
        # And not after each other, which would be four seconds.
        assert taken_s < 2
        await add(database, "x")


async def test_a_change_whose_answer_can_not_be_read_is_not_made(tmp_path: Path) -> None:
    """Nobody would know of it."""
    async with opened(URLS["sqlite"](tmp_path)) as database:
        for name in ("x", "y"):
            await add(database, name, 1)
        with closing(sqlite3.connect(database._url.database or "")) as other, other:
            other.execute("UPDATE keyvaluestore SET key = CAST(x'FF' AS TEXT) WHERE key = 'x'")
        made = await asyncio.gather(
            database.change(NAME, {"old": 1}), add(database, "z", 1), return_exceptions=True
        )
        assert [type(each) for each in made] == [sqlite3.OperationalError, list]
        async with database.read() as session:
            assert (await session.scalars(select(KeyValueStore.value))).all() == [1, 1, 1]


async def test_what_is_cancelled_before_its_turn_is_not_made(tmp_path: Path) -> None:
    async with opened(URLS["sqlite"](tmp_path)) as database:
        async with database.write():
            asked = [asyncio.create_task(add(database, name)) for name in "xyz"]
            await asyncio.sleep(0)
            asked[1].cancel()
            await asyncio.wait(asked[1:2])
        await asyncio.gather(asked[0], asked[2])
        assert kept_keys(database) == {"x", "z"}


def test_a_value_that_python_would_have_to_make_must_be_named() -> None:
    with pytest.raises(ValueError, match="must be among the statement's values"):
        Change(insert(_TASKS).values(kind="x", namespace="n")).text(SQLITE)


async def test_a_database_that_is_closed_says_so_after_what_was_asked_before(
    tmp_path: Path,
) -> None:
    database = Database(URLS["sqlite"](tmp_path))
    await database.open()
    async with asyncio.timeout(PATIENCE_S):
        async with database.write():
            before = [asyncio.create_task(add(database, name)) for name in "xy"]
            await asyncio.sleep(0)
            closing_it = asyncio.create_task(database.close())
        await closing_it
        await asyncio.gather(*before)
        assert kept_keys(database) == {"x", "y"}
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            await add(database, "z")
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            await database.view(lambda view: None)
