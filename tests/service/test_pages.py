"""Pages: every row once, whatever their size, at a cost that does not grow with them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import pytest
from sqlalchemy import bindparam, select

from condastore.database import Database
from condastore.service import pages
from condastore.service.pages import (
    CursorListing,
    CursorRequest,
    Listing,
    Order,
    PageRequest,
    contained,
    containing,
    each,
)
from condastore.tables import Namespace
from condastore.views import Rows, Statement, Values, View

T = TypeVar("T")

SORTABLE = {"name": Namespace.name}
QUERY = select(Namespace.id, Namespace.name)


class Row(NamedTuple):
    id: int
    name: str


async def fill(database: Database, count: int) -> None:
    async with database.write() as session:
        session.add_all([Namespace(name=f"n{number:03}") for number in range(count)])


def listing(*, descending: bool = False) -> Listing:
    return Listing(QUERY, Namespace.id, SORTABLE, Order(("name",), descending))


async def page(
    database: Database, number: int, size: int, *, descending: bool = False
) -> list[str]:
    request = PageRequest(number, size, [], descending)
    found = await database.view(
        lambda view: listing(descending=descending).page(view, {}, request, each(Row))
    )
    assert (found.page, found.size, found.count) == (number, size, 25)
    return [row.name for row in found.rows]


@pytest.mark.parametrize("deep", [0, 10, 1000])
@pytest.mark.parametrize("descending", [False, True])
async def test_pages_together_are_the_list(
    database: Database, monkeypatch: pytest.MonkeyPatch, deep: int, descending: bool
) -> None:
    monkeypatch.setattr(pages, "_DEEP", deep)
    await fill(database, 25)
    everything = sorted((f"n{number:03}" for number in range(25)), reverse=descending)
    for size in (1, 7, 25, 100):
        found = [
            name
            for number in range(1, 25 // size + 2)
            for name in await page(database, number, size, descending=descending)
        ]
        assert found == everything
    assert await page(database, 9, 7) == []
    assert await page(database, 10**30, 7) == []


async def test_a_write_shows_on_deep_pages(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "_DEEP", 0)
    await fill(database, 25)
    assert await page(database, 3, 10) == [f"n{number:03}" for number in range(20, 25)]
    async with database.write() as session:
        session.add(Namespace(name="a"))
        row = await session.get(Namespace, 25)
        await session.delete(row)
    assert await page(database, 3, 10) == [f"n{number:03}" for number in range(19, 24)]


class Counting:
    """A view that counts what is asked of it."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.keeps = view.keeps
        self.statements = 0

    def rows(self, statement: Statement, values: Values) -> Rows:
        self.statements += 1
        return self.view.rows(statement, values)

    def kept(self, statement: Statement, values: Values, make: Callable[[Rows], T]) -> T:
        return make(self.rows(statement, values))

    def kept_numbers(self, statement: Statement, values: Values) -> Sequence[int]:
        self.statements += 1
        return self.view.kept_numbers(statement, values)


async def test_a_page_takes_as_many_statements_whatever_its_size(database: Database) -> None:
    await fill(database, 25)

    def count(size: int) -> Callable[[View], int]:
        def work(view: View) -> int:
            counting = Counting(view)
            listing().page(counting, {}, PageRequest(1, size, [], False), each(Row))
            return counting.statements

        return work

    assert [await database.view(count(size)) for size in (1, 5, 25)] == [2, 2, 2]


@pytest.mark.parametrize("sort_by", [[], ["name"]])
@pytest.mark.parametrize("descending", [False, True])
async def test_cursors_lead_through_the_whole_list(
    database: Database, sort_by: list[str], descending: bool
) -> None:
    await fill(database, 25)
    found: list[str] = []
    cursor: str | None = None
    while True:
        request = CursorRequest(cursor, 7, sort_by, descending)
        cursors = CursorListing(QUERY, Namespace.id, SORTABLE, request.order(SORTABLE))
        result = await database.view(
            lambda view, cursors=cursors, request=request: cursors.page(  # type: ignore[misc]
                view, {}, request, each(Row)
            )
        )
        if not result.rows:
            break
        assert result.count == 25
        found += [row.name for row in result.rows]
        cursor = result.cursor
    assert found == sorted((f"n{number:03}" for number in range(25)), reverse=descending)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("50%", ["50%"]), ("a_b", ["a_b"]), ("/", ["x/y"]), ("b", ["a_b", "axb"]), ("é", ["é"])],
)
async def test_text_is_found_whatever_characters_it_has(
    database: Database, text: str, expected: list[str]
) -> None:
    async with database.write() as session:
        session.add_all([Namespace(name=name) for name in ("50%", "50x", "a_b", "axb", "x/y", "é")])
    statement = Statement(QUERY.where(containing(Namespace.name, "text")).order_by(Namespace.id))
    rows = await database.view(lambda view: view.rows(statement, {"text": contained(text)}))
    assert [name for _, name in rows] == expected
    equal = Statement(QUERY.where(Namespace.name == bindparam("text")))
    assert len(await database.view(lambda view: view.rows(equal, {"text": expected[0]}))) == 1


async def test_a_deep_page_looks_at_its_rows_only(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("EXPLAIN QUERY PLAN is SQLite's")
    await fill(database, 25)
    statement = listing()._chosen

    def plan(view: View) -> str:
        explained = f"EXPLAIN QUERY PLAN {statement.for_sqlite._text}"
        return str(view._connection.execute(explained, ["[1]"]).fetchall())  # type: ignore[attr-defined]

    assert "SEARCH namespace USING INTEGER PRIMARY KEY" in await database.view(plan)
