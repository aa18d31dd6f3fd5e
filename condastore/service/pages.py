"""Lists, a page at a time (rest-api §3).

A list is a few statements that are compiled once for all who ask for it with the same filters and
order. The number of its rows is kept until something is written, so a page costs the same however
long the list is.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, bindparam, func, tuple_

from condastore.errors import InvalidInput
from condastore.views import Query, Rows, Statement, Values, View, among, ids

T = TypeVar("T")

# Lists that differ by who may see what, filters or order: so many stay compiled.
LISTINGS = 256
_MAX_OFFSET = 2**63 - 1
# From here on, the ids of all rows are looked up once, and not walked along for each page.
_DEEP = 1000
_LIKE_ESCAPE = "/"

Columns = Mapping[str, Any]
"""What a list can be sorted by, by name."""
Make = Callable[[Rows], Sequence[T]]


def each(make: Callable[..., T]) -> Make[T]:
    """Returns what makes one thing of each row, by its columns."""
    return lambda rows: [make(*row) for row in rows]


@dataclass(frozen=True)
class Order:
    """By which names, checked, and in which direction."""

    names: tuple[str, ...]
    descending: bool

    def by(self, columns: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """Returns columns in this direction."""
        return [column.desc() if self.descending else column.asc() for column in columns]


@dataclass(frozen=True)
class PageRequest:
    """Which page, how long, in which order."""

    page: int
    size: int
    sort_by: Sequence[str]
    descending: bool

    def order(self, sortable: Columns, default: Sequence[str]) -> Order:
        """Returns the order; unknown sort names are ignored.

        The default names decide between rows that are equal in the requested ones.
        """
        names = [*(name for name in self.sort_by if name in sortable), *default]
        return Order(tuple(dict.fromkeys(names)), self.descending)


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of rows; `count` is the number of all rows."""

    rows: Sequence[T]
    page: int
    size: int
    count: int


class Listing:
    """The statements that a list's pages are read with; the first column of its query is the id."""

    def __init__(self, query: Query, row_id: Any, sortable: Columns, order: Order) -> None:
        columns = order.by([sortable[name] for name in order.names])
        ordered = query.order_by(*columns)
        self._count = Statement(query.with_only_columns(func.count(row_id)))
        self._ids = Statement(ordered.with_only_columns(row_id))
        self._page = Statement(ordered.limit(bindparam("limit")).offset(bindparam("offset")))
        # Without an order SQLite looks for these rows, and does not pass by all others to keep it.
        self._chosen = Statement(query.where(among(row_id, "ids")))

    def page(self, view: View, values: Values, request: PageRequest, make: Make[T]) -> Page[T]:
        """Returns a page; `make` makes what it holds of the rows."""
        count = view.kept(self._count, values, _number)
        offset = offset_of(request)
        if view.keeps and _DEEP <= offset < count:
            chosen = view.kept_numbers(self._ids, values)[offset : offset + request.size]
            found = {row[0]: row for row in view.rows(self._chosen, {**values, "ids": ids(chosen)})}
            rows: Rows = [found[number] for number in chosen if number in found]
        else:
            rows = view.rows(self._page, {**values, "limit": request.size, "offset": offset})
        return Page(make(rows), request.page, request.size, count)


def offset_of(request: PageRequest) -> int:
    """Returns how many rows come before a page, as far as a database can count."""
    return min((request.page - 1) * request.size, _MAX_OFFSET)


def containing(column: Any, parameter: str) -> ColumnElement[bool]:
    """Returns a condition: the column contains the text that `contained` made the parameter of."""
    condition: ColumnElement[bool] = column.like(bindparam(parameter), escape=_LIKE_ESCAPE)
    return condition


def contained(text: str) -> str:
    """Returns the value for `containing`, whatever characters the text has."""
    for character in (_LIKE_ESCAPE, "%", "_"):
        text = text.replace(character, _LIKE_ESCAPE + character)
    return f"%{text}%"


@dataclass(frozen=True)
class CursorRequest:
    """What follows a cursor, how much of it, in which order (rest-api §3)."""

    cursor: str | None
    limit: int
    sort_by: Sequence[str]
    descending: bool

    def order(self, sortable: Columns) -> Order:
        """Returns the order. Raises `InvalidInput` for a name that can't be sorted by."""
        unknown = [name for name in self.sort_by if name not in sortable]
        if unknown:
            raise InvalidInput(
                f"Cannot sort results by {unknown}. Valid sort_by values are {list(sortable)}"
            )
        return Order(tuple(dict.fromkeys(self.sort_by)), self.descending)


@dataclass(frozen=True)
class CursorPage(Generic[T]):
    """Rows, the cursor behind the last one, and the number of all rows."""

    rows: Sequence[T]
    cursor: str
    count: int


class CursorListing:
    """The statements that a list is read with from a cursor on."""

    def __init__(self, query: Query, row_id: Any, sortable: Columns, order: Order) -> None:
        columns = [*(sortable[name] for name in order.names), row_id]
        self._names = order.names
        self._width = len(query.selected_columns)
        self._count = Statement(query.with_only_columns(func.count(row_id)))
        # The values of the last row come with it, so that the cursor costs no query of its own.
        first = query.add_columns(*columns).order_by(*order.by(columns))
        first = first.limit(bindparam("limit"))
        self._first = Statement(first)
        last: list[Any] = [bindparam(f"last_{number}") for number in range(len(columns))]
        position, value = tuple_(*columns), tuple_(*last)
        self._after = Statement(
            first.where(position < value if order.descending else position > value)
        )

    def page(
        self, view: View, values: Values, request: CursorRequest, make: Make[T]
    ) -> CursorPage[T]:
        """Returns the rows behind a cursor. Raises `InvalidInput` for one that is none of ours."""
        after = _decoded(request.cursor, self._names)
        count = view.kept(self._count, values, _number)
        last = {f"last_{number}": value for number, value in enumerate(after or ())}
        statement = self._first if after is None else self._after
        rows = view.rows(statement, {**values, **last, "limit": request.limit})
        end = list(rows[-1][self._width :]) if rows else None
        found = make([row[: self._width] for row in rows])
        return CursorPage(found, _encoded(self._names, end), count)


def _number(rows: Rows) -> int:
    number: int = rows[0][0]
    return number


def _encoded(names: Sequence[str], values: Sequence[Any] | None) -> str:
    last_value = None if values is None else dict(zip(names, values, strict=False))
    last_id = None if values is None else values[-1]
    text = json.dumps({"last_id": last_id, "last_value": last_value}, separators=(",", ":"))
    return base64.b64encode(text.encode()).decode()


def _decoded(cursor: str | None, names: Sequence[str]) -> list[Any] | None:
    """Returns the last values and id of a cursor; None at the start of a list."""
    if not cursor:
        return None
    try:
        found = json.loads(base64.b64decode(cursor, validate=True))
        if found["last_id"] is None:
            return None
        values, last_id = dict(found["last_value"] or {}), int(found["last_id"])
        texts = [values[name] for name in names]
    except (ValueError, KeyError, TypeError, RecursionError):
        texts, last_id = [None], 0
    if not all(isinstance(text, str) for text in texts) or abs(last_id) >= 2**31:
        raise InvalidInput(
            "cursor is not one that an answer to this list with this sort_by has given"
        )
    return [*texts, last_id]
