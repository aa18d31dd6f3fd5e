"""Lists, a page at a time (rest-api §3)."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.errors import InvalidInput

T = TypeVar("T")

_MAX_OFFSET = 2**63 - 1


@dataclass(frozen=True)
class PageRequest:
    """Which page, how long, in which order."""

    page: int
    size: int
    sort_by: Sequence[str]
    descending: bool


@dataclass(frozen=True)
class Page(Generic[T]):
    """A page of rows; `count` is the number of all rows."""

    rows: Sequence[T]
    page: int
    size: int
    count: int


async def page_of(
    session: AsyncSession,
    query: Select[T],
    request: PageRequest,
    sortable: Mapping[str, Any],
    default: Sequence[str],
) -> Page[T]:
    """Returns a page of what a query selects; unknown sort names are ignored.

    The default names decide between rows that are equal in the requested ones.
    """
    names = dict.fromkeys([*(name for name in request.sort_by if name in sortable), *default])
    columns = [sortable[name] for name in names]
    order = [column.desc() if request.descending else column.asc() for column in columns]
    count = await session.scalar(select(func.count()).select_from(query.subquery())) or 0
    query = query.order_by(*order).limit(request.size).offset(offset_of(request))
    rows = (await session.scalars(query)).all()
    return Page(rows, request.page, request.size, count)


def offset_of(request: PageRequest) -> int:
    """Returns how many rows come before a page, as far as a database can count."""
    return min((request.page - 1) * request.size, _MAX_OFFSET)


def containing(column: Any, text: str) -> Any:
    """Returns a condition: the column contains the text, whatever characters it has."""
    return column.contains(text, autoescape=True)


@dataclass(frozen=True)
class CursorRequest:
    """What follows a cursor, how much of it, in which order (rest-api §3)."""

    cursor: str | None
    limit: int
    sort_by: Sequence[str]
    descending: bool


@dataclass(frozen=True)
class CursorPage(Generic[T]):
    """Rows, the cursor behind the last one, and the number of all rows."""

    rows: Sequence[T]
    cursor: str
    count: int


async def cursor_page_of(
    session: AsyncSession,
    query: Select[T],
    request: CursorRequest,
    sortable: Mapping[str, Any],
    row_id: Any,
) -> CursorPage[T]:
    """Returns the rows of a query that follow a cursor.

    Raises `InvalidInput` for a cursor that is none of ours, and a name that can't be sorted by.
    """
    unknown = [name for name in request.sort_by if name not in sortable]
    if unknown:
        raise InvalidInput(
            f"Cannot sort results by {unknown}. Valid sort_by values are {list(sortable)}"
        )
    names = list(dict.fromkeys(request.sort_by))
    columns = [*(sortable[name] for name in names), row_id]
    count = await session.scalar(select(func.count()).select_from(query.subquery())) or 0
    after = _decoded(request.cursor, names)
    if after is not None:
        position, last = tuple_(*columns), tuple_(*after)
        query = query.where(position < last if request.descending else position > last)
    order = [column.desc() if request.descending else column.asc() for column in columns]
    # The values of the last row come with it, so that the cursor costs no query of its own.
    rows = (
        await session.execute(query.add_columns(*columns).order_by(*order).limit(request.limit))
    ).all()
    values = list(rows[-1][1:]) if rows else None
    return CursorPage([row[0] for row in rows], _encoded(names, values), count)


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
    if not all(isinstance(text, str) for text in texts) or abs(last_id) >= 2**63:
        raise InvalidInput(
            "cursor is not one that an answer to this list with this sort_by has given"
        )
    return [*texts, last_id]
