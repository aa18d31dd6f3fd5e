"""What is read in one go: on one state, holding up nobody, and the same on every database."""

import asyncio
import os
import sqlite3
import threading
from contextlib import closing
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import Text, bindparam, cast, func, literal, select
from sqlalchemy.exc import SQLAlchemyError

from condastore import views
from condastore.builds import BuildStatus
from condastore.database import Database
from condastore.errors import DatabaseUnavailable
from condastore.tables import Build, Namespace, Specification
from condastore.views import Kept, Statement, View, among, ids
from tests.databases import URLS
from tests.patience import PATIENCE_S
from tests.rows import SPEC, add_build

NAMES = Statement(select(Namespace.name).order_by(Namespace.name))
NAMED = Statement(select(Namespace.id).where(Namespace.name == bindparam("name")))
_NUMBERS = select(literal(1).label("number")).cte(recursive=True)
_NUMBERS = _NUMBERS.union_all(select(_NUMBERS.c.number + 1).where(_NUMBERS.c.number < 1_000_000))
# It takes a tenth of a second on any machine, or longer.
LONG = Statement(select(func.max(_NUMBERS.c.number)))
CHOSEN = Statement(select(Namespace.name).where(among(Namespace.id, "ids")).order_by(Namespace.id))


async def add(database: Database, *names: str) -> None:
    async with database.write() as session:
        session.add_all([Namespace(name=name) for name in names])


async def names(database: Database) -> list[str]:
    return [name for (name,) in await database.view(lambda view: view.rows(NAMES, {}))]


# Statements


async def test_values_come_out_as_they_went_in(database: Database) -> None:
    await add_build(database, status=BuildStatus.FAILED, name="e")
    query = select(Build.status, Build.scheduled_on, Build.started_on, Specification.spec)
    statement = Statement(
        query.join(Build.specification).where(Build.status == bindparam("status"))
    )
    rows = await database.view(lambda view: view.rows(statement, {"status": BuildStatus.FAILED}))
    ((status, scheduled, started, spec),) = rows
    assert status is BuildStatus.FAILED
    assert isinstance(scheduled, datetime) and started is None
    assert spec == {**SPEC, "name": "e"}
    none = await database.view(lambda view: view.rows(statement, {"status": BuildStatus.QUEUED}))
    assert list(none) == []


async def test_texts_and_their_order_come_through_as_they_are(database: Database) -> None:
    texts = ['"', "\\", "\x01\n\u2028\ud7ff", "{}", "[1]", "null", "ä€😀", "x" * 255, ""]
    await add(database, *texts)
    backwards = Statement(select(Namespace.name, Namespace.id).order_by(Namespace.id.desc()))
    rows = await database.view(lambda view: view.rows(backwards, {}))
    assert list(rows) == [(text, number) for number, text in enumerate(texts, 1)][::-1]


async def test_a_list_of_ids_has_any_length(database: Database) -> None:
    await add(database, *(f"n{number}" for number in range(200)))
    everything = range(1, 201)
    for chosen in ([], [7], everything, [*everything, 5000]):
        rows = await database.view(
            lambda view, chosen=chosen: view.rows(CHOSEN, {"ids": ids(chosen)})  # type: ignore[misc]
        )
        assert [name for (name,) in rows] == [f"n{n - 1}" for n in chosen if n <= 200]


# Views


async def test_a_view_sees_one_state_and_does_not_hold_up_the_writer(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL reads what was committed last")
    looked, written = threading.Event(), threading.Event()

    def twice(view: View) -> tuple[int, int]:
        view.rows(LONG, {})
        first = len(view.rows(NAMES, {}))
        looked.set()
        assert written.wait(5)
        return first, len(view.rows(NAMES, {}))

    viewing = asyncio.create_task(database.view(twice))
    await asyncio.to_thread(looked.wait, PATIENCE_S)
    await add(database, "x")
    written.set()
    assert await viewing == (0, 0)
    assert await names(database) == ["x"]


async def test_slow_work_holds_up_neither_the_loop_nor_other_views(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("on PostgreSQL the server is what is slow")
    looked, going = threading.Event(), threading.Event()

    def slowly(view: View) -> bool:
        view.rows(LONG, {})
        looked.set()
        return going.wait(2 * PATIENCE_S)

    slow = asyncio.create_task(database.view(slowly))
    assert await asyncio.to_thread(looked.wait, PATIENCE_S)
    async with asyncio.timeout(PATIENCE_S):
        assert await names(database) == []
    assert not slow.done()
    going.set()
    assert await slow


async def test_what_is_short_is_read_on_the_loop_and_what_is_long_or_large_in_a_thread(
    database: Database,
) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL's statements are awaited")
    large = Statement(select(cast(bindparam("text"), Text)))
    text = "x" * views.SHORT_BYTES
    threads = []

    def look(view: View, statement: Statement) -> views.Rows:
        threads.append(threading.current_thread() is threading.main_thread())
        rows = view.rows(statement, {"text": text})
        threads.append(threading.current_thread() is threading.main_thread())
        return rows

    for statement, found in ((NAMES, []), (LONG, [(1_000_000,)]), (large, [(text,)])):
        rows = await database.view(lambda view, statement=statement: look(view, statement))  # type: ignore[misc]
        assert list(rows) == found
    # The last two were begun on the loop, and not ended there.
    assert threads == [True, True, True, False, False, True, False, False]


async def test_after_a_wait_for_the_disk_threads_read_for_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not database.is_sqlite:
        pytest.skip("PostgreSQL's statements are awaited")
    await add(database, *("name" * 50 + str(number) for number in range(1000)))
    path = Path(database._url.database or "")

    async def reads_on_the_loop() -> bool:
        def look(view: View) -> bool:
            view.rows(NAMED, {"name": "name" * 50 + "500"})
            return threading.current_thread() is threading.main_thread()

        return await database.view(look)

    assert await reads_on_the_loop()
    # Another's write makes SQLite forget what it holds in memory.
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE namespace SET name = 'first' WHERE id = 1")
    for file in (path, path.with_name(f"{path.name}-wal")):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = views._disk_reads()
    await reads_on_the_loop()
    if views._disk_reads() == before:
        pytest.skip("the kernel counts no reads from this disk")
    assert not await reads_on_the_loop()
    monkeypatch.setattr(views._ShortReads, "is_cold", False)
    assert await reads_on_the_loop()


async def test_an_error_reaches_who_asked_and_nobody_else(database: Database) -> None:
    broken = Statement(select(Namespace.id).where(bindparam("x") == Namespace.name))
    for _ in range(10):
        with pytest.raises((sqlite3.Error, SQLAlchemyError)):
            await database.view(lambda view: view.rows(broken, {"x": object()}))
        with pytest.raises(ZeroDivisionError):
            await database.view(lambda _: 1 // 0)
    assert await names(database) == []


async def test_a_view_changes_nothing(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("only SQLite has connections that can't write")
    await add(database, "x")

    def spoil(view: View) -> None:
        view._connection.execute("DELETE FROM namespace")  # type: ignore[attr-defined]

    with pytest.raises(DatabaseUnavailable) as raised:
        await database.view(spoil)
    assert "readonly" in str(raised.value.__cause__)
    assert await names(database) == ["x"]


async def test_views_that_nobody_waits_for_any_more_leave_the_readers_as_they_were(
    database: Database,
) -> None:
    await add(database, "x")
    for number in range(30):
        viewing = asyncio.create_task(names(database))
        await asyncio.sleep(number * 0.0001)
        viewing.cancel()
        await asyncio.gather(viewing, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*(names(database) for _ in range(20))) == [["x"]] * 20


# What is kept


async def test_what_is_kept_is_looked_up_again_after_a_write(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("others may write to PostgreSQL")
    looks = 0

    def count(rows: views.Rows) -> int:
        nonlocal looks
        looks += 1
        return len(rows)

    async def kept(name: str) -> int:
        return await database.view(lambda view: view.kept(NAMED, {"name": name}, count))

    assert [await kept("x"), await kept("x"), await kept("y")] == [0, 0, 0]
    assert looks == 2
    await add(database, "x")
    assert [await kept("x"), await kept("x"), await kept("y")] == [1, 1, 0]
    assert looks == 4


def test_what_is_kept_gets_old_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept()
    for number in range(views.KEPT + 10):
        assert kept.get(number, 1, lambda number=number: number) == number  # type: ignore[misc]
    assert len(kept._values) == views.KEPT
    assert kept.get(views.KEPT, 1, lambda: -1) == views.KEPT
    monkeypatch.setattr(views, "KEPT_S", -1.0)
    assert kept.get("x", 1, lambda: 1) == 1
    assert kept.get("x", 1, lambda: 2) == 2


async def test_a_file_that_can_not_be_opened_is_told_as_such(tmp_path: Path) -> None:
    database = Database(URLS["sqlite"](tmp_path))
    await database.open()

    def look(view: View) -> None:
        missing = tmp_path / "none" / "a.sqlite"
        view._connection.execute(f"ATTACH '{missing}' AS other")  # type: ignore[attr-defined]

    with pytest.raises(DatabaseUnavailable):
        await database.view(look)
    assert await names(database) == []
    await database.close()
