"""Lists, a page at a time (rest-api §3)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

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
    offset = min((request.page - 1) * request.size, _MAX_OFFSET)
    rows = (await session.scalars(query.order_by(*order).limit(request.size).offset(offset))).all()
    return Page(rows, request.page, request.size, count)


def containing(column: Any, text: str) -> Any:
    """Returns a condition: the column contains the text, whatever characters it has."""
    return column.contains(text, autoescape=True)
