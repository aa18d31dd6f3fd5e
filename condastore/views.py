"""What is read often: statements that are compiled once, and run in one go.

A statement is written with SQLAlchemy like any other. On SQLite its text and the conversions of
its values are made once, and a whole request's statements run at once, on the event loop, if they
are short: a thread would compete with the loop for the interpreter, and that costs more than a
page does. What turns out to be long runs in one visit to a thread with a connection of its own.
"""

import json
import resource
import sqlite3
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any, Protocol, TypeVar

import msgspec
from sqlalchemy import Boolean, Select, String, bindparam
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from condastore.sqlite_threads import SqliteThreads
from condastore.statements import SQLITE, StatementText

T = TypeVar("T")

Values = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]
Query = Select[*tuple[Any, ...]]

KEPT = 128
# Somebody may write past this daemon.
KEPT_S = 60.0
# What is read on the event loop ends then, and begins anew in a thread.
SHORT_S = 0.005
SHORT_BYTES = 256 * 1024
# For so long threads read after one on the event loop has waited for the disk.
COLD_S = 1.0
_STEPS = 100
_STATEMENTS = 512
_ROWS = msgspec.json.Decoder(list[tuple[Any, ...]])
_NUMBERS = msgspec.json.Decoder(list[int])


class among(FunctionElement[bool]):  # noqa: N801 - reads as the SQL that it is
    """Whether a number is one of those in a parameter, which `ids` made: as many as there are."""

    inherit_cache = True
    type = Boolean()

    def __init__(self, column: Any, parameter: str) -> None:
        super().__init__(column, bindparam(parameter, type_=String()))

    def self_group(self, against: Any = None) -> Any:
        """Returns the condition as it is; `= 1` behind it would make SQLite look at every row."""
        del against
        return self


@compiles(among, "sqlite")
def _sqlite_among(element: Any, compiler: Any, **options: Any) -> str:
    column, array = (compiler.process(clause, **options) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({array}))"


@compiles(among, "postgresql")
def _postgresql_among(element: Any, compiler: Any, **options: Any) -> str:
    column, array = (compiler.process(clause, **options) for clause in element.clauses)
    return (
        f"{column} IN "
        f"(SELECT CAST(value AS BIGINT) FROM json_array_elements_text(CAST({array} AS JSON)))"
    )


def ids(numbers: Iterable[int]) -> str:
    """Returns numbers as the value of a parameter of `among`."""
    return json.dumps(list(numbers))


class Statement:
    """A query; its parameters are those that `bindparam` names."""

    def __init__(self, query: Query) -> None:
        self.query = query

    @cached_property
    def for_sqlite(self) -> "SqliteStatement":
        """The text for SQLite, made when it is needed first."""
        return SqliteStatement(self.query)


class SqliteStatement:
    """A query of which the rows come as one JSON text.

    Row by row, the thread would let go of the interpreter as often as there are rows, and wait for
    it behind all other threads.
    """

    def __init__(self, query: Query) -> None:
        self._inner = StatementText(query, SQLITE)
        columns = [f"c{index}" for index in range(self._inner.width)]
        found = f"WITH found ({', '.join(columns)}) AS ({self._inner.text}) SELECT json_group_array"
        self._text = f"{found}(json_array({', '.join(columns)})) FROM found"
        self._first_text = f"{found}({columns[0]}) FROM found"

    def rows(self, connection: sqlite3.Connection, values: Values) -> Rows:
        """Returns what the query finds with these parameters."""
        (text,) = connection.execute(self._text, self._inner.parameters(values)).fetchone()
        return self._inner.converted(_ROWS.decode(text))

    def numbers(self, connection: sqlite3.Connection, values: Values) -> Sequence[int]:
        """Returns the first column, which holds numbers: very many are read in milliseconds."""
        (text,) = connection.execute(self._first_text, self._inner.parameters(values)).fetchone()
        return array("q", _NUMBERS.decode(text))


class View(Protocol):
    """One state of the database, for as long as a piece of work looks at it."""

    keeps: bool
    """Whether `kept` keeps anything: others may write to a PostgreSQL database."""

    def rows(self, statement: Statement, values: Values) -> Rows:
        """Returns what a statement finds."""

    def kept(self, statement: Statement, values: Values, make: Callable[[Rows], T]) -> T:
        """Returns what `make` makes of the rows, which is kept until something is written."""

    def kept_numbers(self, statement: Statement, values: Values) -> Sequence[int]:
        """Returns the first column of a statement, which is kept in the same way."""


class Kept:
    """What was found while the database was at some generation."""

    def __init__(self) -> None:
        self._values: OrderedDict[Any, tuple[int, float, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, generation: int, look: Callable[[], T]) -> T:
        """Returns what `look` returns, or returned at the same generation."""
        with self._lock:
            found = self._values.get(key)
        if found is not None and found[0] == generation and time.monotonic() < found[1]:
            kept: T = found[2]
            return kept
        value = look()
        with self._lock:
            self._values[key] = (generation, time.monotonic() + KEPT_S, value)
            self._values.move_to_end(key)
            while len(self._values) > KEPT:
                self._values.popitem(last=False)
        return value


class SqliteView:
    """A view through a connection of this thread."""

    keeps = True

    def __init__(self, connection: sqlite3.Connection, kept: Kept, generation: int) -> None:
        self._connection = connection
        self._kept = kept
        self._generation = generation

    def rows(self, statement: Statement, values: Values) -> Rows:
        """Returns what a statement finds."""
        return statement.for_sqlite.rows(self._connection, values)

    def kept(self, statement: Statement, values: Values, make: Callable[[Rows], T]) -> T:
        """Returns what `make` makes of the rows, which is kept until something is written."""
        return self._keep(statement, values, lambda: make(self.rows(statement, values)))

    def kept_numbers(self, statement: Statement, values: Values) -> Sequence[int]:
        """Returns the first column of a statement, which is kept in the same way."""
        numbers = statement.for_sqlite.numbers
        return self._keep(statement, values, lambda: numbers(self._connection, values))

    def _keep(self, statement: Statement, values: Values, look: Callable[[], T]) -> T:
        return self._kept.get((statement, *values.items()), self._generation, look)


class ConnectionView:
    """A view through a connection of SQLAlchemy's."""

    keeps = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def rows(self, statement: Statement, values: Values) -> Rows:
        """Returns what a statement finds."""
        found = self._connection.execute(statement.query, dict(values))
        return [tuple(row) for row in found]

    def kept(self, statement: Statement, values: Values, make: Callable[[Rows], T]) -> T:
        """Returns what `make` makes of the rows."""
        return make(self.rows(statement, values))

    def kept_numbers(self, statement: Statement, values: Values) -> Sequence[int]:
        """Returns the first column of a statement."""
        return [row[0] for row in self.rows(statement, values)]


class _ShortReads:
    """Reads that hold up nobody: after `SHORT_S`, a wait for the disk, at a lock and at a value of
    more than `SHORT_BYTES` they end with a `sqlite3.Error`."""

    def __init__(self, connection: sqlite3.Connection, kept: Kept) -> None:
        self._connection = connection
        self._kept = kept
        self._end = 0.0
        self._disk_reads = 0
        self._cold_until = 0.0
        # SQLite reads the schema now, and not as a part of the first read.
        connection.execute("SELECT name FROM sqlite_schema").close()
        connection.execute("PRAGMA busy_timeout=0")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, SHORT_BYTES)
        connection.set_progress_handler(self._is_long, _STEPS)

    @property
    def is_cold(self) -> bool:
        """Whether the next one would probably have to wait for the disk."""
        return time.monotonic() < self._cold_until

    def read(self, work: Callable[[View], T], generation: int) -> T:
        """Returns what `work` returns."""
        self._end = time.monotonic() + SHORT_S
        self._disk_reads = _disk_reads()
        try:
            return _read(self._connection, work, self._kept, generation)
        finally:
            if _disk_reads() != self._disk_reads:
                self._cold_until = time.monotonic() + COLD_S

    def _is_long(self) -> bool:
        return time.monotonic() > self._end or _disk_reads() != self._disk_reads

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class SqliteReaders:
    """Connections that read a SQLite file: one of the event loop, and threads with one each."""

    def __init__(self, path: str, threads: int) -> None:
        self._path = path
        self._count = threads
        self._kept = Kept()
        self._short: _ShortReads | None = None
        self._threads = SqliteThreads("reader")

    def start(self) -> None:
        """Opens the connections and starts the threads. Raises `sqlite3.Error`."""
        self._short = _ShortReads(self._connect(), self._kept)
        self._threads.start(self._connect() for _ in range(self._count))

    async def view(self, work: Callable[[View], T], generation: int) -> T:
        """Returns what `work` returns; `generation` is that of the newest write."""
        if self._short is not None and not self._short.is_cold:
            # It is long, or it fails, and then does so again.
            with suppress(sqlite3.Error):
                return self._short.read(work, generation)
        return await self._threads.do(
            lambda connection: _read(connection, work, self._kept, generation)
        )

    def close(self) -> None:
        """Waits until the threads have ended."""
        self._threads.close()
        if self._short is not None:
            self._short.close()
            self._short = None

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path,
            timeout=10,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=_STATEMENTS,
        )
        connection.execute("PRAGMA query_only=ON")
        return connection


def _disk_reads() -> int:
    """Returns how many blocks this thread has waited for, as far as the kernel counts them."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_inblock


def _read(
    connection: sqlite3.Connection, work: Callable[[View], T], kept: Kept, generation: int
) -> T:
    """Returns what `work` returns, which sees one state of the database."""
    connection.execute("BEGIN")
    try:
        return work(SqliteView(connection, kept, generation))
    finally:
        connection.rollback()
