"""The index of what channels offer, read: made by `condastore.engine.index`, one SQLite file.

Channels, names and versions are numbers there, in their order, which for versions is conda's; so
every order and every distinction is one of numbers. `listing` has a row for each name of a
channel, so that most questions don't meet the packages themselves, which are thirty times as many.
"""

import asyncio
import hashlib
import json
import logging
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from condastore.errors import Unavailable
from condastore.spelling import similar

T = TypeVar("T")

# Of the file's form; condastore/engine/index/file.py writes it.
FORMAT = 1
COLUMNS = ("channel", "name", "version")
READERS = 2
# Whoever asks for this much waits for a scan of everything.
QUERY_S = 5.0
# Searches whose names and number of packages a thread remembers.
KEPT = 64
_CACHE_KIB = 2048
_STEPS = 100_000
_ID_BITS = 53
_ROWS = msgspec.json.Decoder(list[tuple[Any, ...]])
_SHIFT = 1 << 32

_LIKE = "name LIKE ? ESCAPE '!'"
_FEW = 1000
# Others are not in the index, and SQLite takes no pattern of any length.
_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,255}")
_PACKAGES = "package ON package.channel = listing.channel AND package.name = listing.name"
_KNOWN = (
    "SELECT name FROM name WHERE name IN (SELECT value FROM json_each(?)) "
    "AND EXISTS (SELECT 1 FROM listing JOIN channel ON channel.id = listing.channel "
    "WHERE listing.name = name.id AND channel.url IN (SELECT value FROM json_each(?)))"
)
# All rows in one step, and in the order of their keys. Row by row, the thread would let go of the
# interpreter as often as there are rows, and wait for it behind all other threads.
_SHOWN = (
    "WITH key (channel, name, version) AS ({page} LIMIT ? OFFSET ?) "
    "SELECT json_group_array(json_array(c.url, n.name, v.version, l.license, g.summary)) FROM key "
    "CROSS JOIN package p "
    "ON p.channel = key.channel AND p.name = key.name AND p.version = key.version "
    "CROSS JOIN channel c ON c.id = p.channel CROSS JOIN name n ON n.id = p.name "
    "CROSS JOIN version v ON v.id = p.version LEFT JOIN license l ON l.id = p.license "
    "CROSS JOIN listing g ON g.channel = p.channel AND g.name = p.name"
)


@dataclass(frozen=True)
class PackageQuery:
    """Which packages, in which order."""

    search: str = ""
    """A part of the name, in any case."""
    exact: bool = False
    build: str = ""
    distinct_on: Sequence[str] = ()
    """One package for each combination of these columns, the first in the order."""
    sort_by: Sequence[str] = ()
    descending: bool = False

    @property
    def distinct(self) -> list[str]:
        """The columns to be distinct on, each once."""
        return [column for column in dict.fromkeys(self.distinct_on) if column in COLUMNS]

    @property
    def is_distinct(self) -> bool:
        """Whether that leaves anything out: a package is all three columns."""
        return 0 < len(self.distinct) < len(COLUMNS)

    @property
    def order(self) -> list[str]:
        """All columns, in the order in which they count."""
        wanted = [*self.distinct, *self.sort_by, *COLUMNS]
        return [column for column in dict.fromkeys(wanted) if column in COLUMNS]


class IndexedPackage(NamedTuple):
    """A version of a package in a channel."""

    channel: str
    name: str
    version: str
    license: str | None
    summary: str | None

    @property
    def id(self) -> int:
        """A number that is this package's alone, and stays the same when the index is made anew.

        It is a hash, of as many bits as every reader of JSON can take.
        """
        text = "\0".join((self.channel, self.name, self.version))
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return int.from_bytes(digest) >> (64 - _ID_BITS)


class PackageIndex:
    """Answers questions in threads of its own; while there is no file, there are no packages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="package index")
        self._local = threading.local()

    async def find(
        self, query: PackageQuery, offset: int, limit: int
    ) -> tuple[list[IndexedPackage], int]:
        """Returns a part of what is found, and how much is found. Raises `Unavailable`."""
        return await self._run(_find, query, offset, limit)

    async def channels(self) -> dict[str, int]:
        """Returns the channels that are in the index, and how many records each has."""
        return await self._run(_channels)

    async def unknown(
        self, channels: Collection[str], names: Collection[str]
    ) -> dict[str, list[str]]:
        """Returns the names that none of some channels has, each with similar ones that they have.

        While one of the channels is not in the index it is not known what they have: then none.
        """
        try:
            return await self._run(_unknown, channels, names)
        except (sqlite3.Error, Unavailable) as error:
            logging.getLogger(__name__).warning("names can't be looked up: %s", error)
            return {}

    def close(self) -> None:
        """Ends the threads, once they have answered."""
        self._threads.shutdown()

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._read, work, *arguments)

    def _read(self, work: Callable[..., T], *arguments: Any) -> T:
        file = self._file()
        deadline = time.monotonic() + QUERY_S
        file.connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
        try:
            return work(file, *arguments)
        except sqlite3.OperationalError as error:
            if time.monotonic() > deadline:
                raise Unavailable(
                    "The search takes too long; give more of the name to search for"
                ) from None
            raise error

    def _file(self) -> "_File":
        """Returns the file that has the name now, as this thread has it open."""
        try:
            status = self.path.stat()
            version = (status.st_ino, status.st_mtime_ns)
        except FileNotFoundError:
            version = None
        if getattr(self._local, "version", "none yet") != version:
            if hasattr(self._local, "file"):
                self._local.file.connection.close()
            self._local.file = _File(_opened(self.path) if version else _empty())
            self._local.version = version
        file: _File = self._local.file
        return file


class _File:
    """An open file, which never changes: what whoever pages asks for each time is found once."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.names = lru_cache(KEPT)(partial(_names, connection))
        self.count = lru_cache(KEPT)(self._count)

    def _count(self, statement: str, *values: Any) -> int:
        found: int = self.connection.execute(statement, values).fetchone()[0]
        return found


def _opened(path: Path) -> sqlite3.Connection:
    # Nobody writes to a file that has this name: it needs no locks.
    file = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
    try:
        if file.execute("PRAGMA user_version").fetchone()[0] == FORMAT:
            file.execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
            return file
    except sqlite3.DatabaseError:
        pass
    file.close()
    return _empty()


def _empty() -> sqlite3.Connection:
    file = sqlite3.connect(":memory:")
    for table, columns in (
        ("channel", "id, url, records"),
        ("name", "id, name"),
        ("version", "id, version"),
        ("license", "id, license"),
        ("package", "channel, name, version, license, builds"),
        ("listing", "channel, name, versions, first, last, summary"),
    ):
        file.execute(f"CREATE TABLE {table} ({columns})")
    return file


def _channels(file: _File) -> dict[str, int]:
    return dict(file.connection.execute("SELECT url, records FROM channel"))


def _unknown(
    file: _File, channels: Collection[str], names: Collection[str]
) -> dict[str, list[str]]:
    if not channels or not set(channels) <= _channels(file).keys():
        return {}
    known = _known(file, channels, names)
    rest = [name for name in names if name not in known]
    return {name: sorted(_known(file, channels, similar(name))) for name in rest}


def _known(file: _File, channels: Collection[str], names: Collection[str]) -> set[str]:
    rows = file.connection.execute(_KNOWN, (json.dumps([*names]), json.dumps([*channels])))
    return {name for (name,) in rows}


def _find(
    file: _File, query: PackageQuery, offset: int, limit: int
) -> tuple[list[IndexedPackage], int]:
    names = file.names(query.search, exact=query.exact) if query.search else None
    source = _source(query, names)
    count = file.count(_count(query, source), *source.values)
    statement = _SHOWN.format(page=_page(query, source))
    (array,) = file.connection.execute(statement, [*source.values, limit, offset]).fetchone()
    return [IndexedPackage(*row) for row in _ROWS.decode(array)], count


def _names(file: sqlite3.Connection, search: str, *, exact: bool) -> list[int] | None:
    """The numbers of the names that are searched for; None if they are many."""
    if not _NAME.fullmatch(search):
        return []
    condition, value = ("name = ?", search) if exact else (_LIKE, _pattern(search))
    rows = file.execute(f"SELECT id FROM name WHERE {condition} LIMIT {_FEW + 1}", (value,))
    found = [number for (number,) in rows]
    return found if len(found) <= _FEW else None


def _pattern(search: str) -> str:
    """A pattern for `_LIKE`, in which no character of a name means another."""
    return f"%{search.replace('_', '!_')}%"


class _Source(NamedTuple):
    """Where rows come from, and what the columns are called there."""

    text: str
    values: list[Any]
    columns: dict[str, str]


def _source(query: PackageQuery, names: list[int] | None) -> _Source:
    tables, conditions, values = ["listing"], [], []
    if names is not None:
        conditions.append(f"listing.name IN ({', '.join(map(str, names))})")
    elif query.search:
        # Listings in their order, of which most match, so that the first page needs only some.
        tables.append("name ON name.id = listing.name")
        conditions.append(f"name.{_LIKE}")
        values.append(_pattern(query.search))
    if query.is_distinct and "version" not in query.distinct and not query.build:
        # The first or last version stands for all of them.
        version = "listing.last" if query.descending else "listing.first"
    else:
        version = "package.version"
        tables.append(_PACKAGES)
    if query.build:
        conditions.append("instr(package.builds, ?)")
        values.append(query.build)
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    columns = {"channel": "listing.channel", "name": "listing.name", "version": version}
    return _Source(f"{' CROSS JOIN '.join(tables)}{where}", values, columns)


def _count(query: PackageQuery, source: _Source) -> str:
    if query.is_distinct:
        columns = ", ".join(source.columns[column] for column in query.distinct)
        return f"SELECT count(*) FROM (SELECT DISTINCT {columns} FROM {source.text})"
    if query.build:
        return f"SELECT count(*) FROM {source.text}"
    counted = source.text.replace(f" CROSS JOIN {_PACKAGES}", "")
    return f"SELECT coalesce(sum(listing.versions), 0) FROM {counted}"


def _page(query: PackageQuery, source: _Source) -> str:
    """The keys of packages: by channel, name and version."""
    direction = "DESC" if query.descending else "ASC"
    columns = source.columns
    if not query.is_distinct:
        order = ", ".join(f"{columns[column]} {direction}" for column in query.order)
        return f"SELECT {', '.join(columns.values())} FROM {source.text} ORDER BY {order}"
    distinct = [columns[column] for column in query.distinct]
    rest = [columns[column] for column in query.order[len(distinct) :]]
    # SQLite takes the other columns from the row that has the extreme.
    joined = rest[0] if len(rest) == 1 else f"{rest[0]} * {_SHIFT} + {rest[1]}"
    extreme = f"{'max' if query.descending else 'min'}({joined})"
    return (
        f"SELECT channel, name, version FROM (SELECT {_named(columns)}, {extreme} "
        f"FROM {source.text} GROUP BY {', '.join(distinct)} "
        f"ORDER BY {', '.join(f'{column} {direction}' for column in distinct)})"
    )


def _named(columns: dict[str, str]) -> str:
    return ", ".join(f"{column} AS {name}" for name, column in columns.items())
