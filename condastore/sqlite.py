"""SQLite without SQLAlchemy's engine: texts of statements, made once, and threads that run them.

A statement is written with SQLAlchemy like any other.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from sqlalchemy import BindParameter
from sqlalchemy.dialects import sqlite

T = TypeVar("T")

_DIALECT = sqlite.dialect(paramstyle="qmark")


class SqliteText:
    """The text of a statement, and how its parameters go in and its columns come out."""

    def __init__(self, statement: Any) -> None:
        compiled = statement.compile(dialect=_DIALECT)
        self.text = str(compiled)
        literals = compiled.params
        names: Sequence[str] = compiled.positiontup or ()
        binds: Mapping[str, BindParameter[Any]] = compiled.binds
        self._parameters = [(name, literals[name], _binder(binds[name])) for name in names]
        self.width = len(statement.exported_columns)
        readers = enumerate(_reader(column) for column in statement.exported_columns)
        self._columns = [(index, reader) for index, reader in readers if reader is not None]

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """Returns the parameters as SQLite takes them."""
        parameters = []
        for name, literal, bind in self._parameters:
            value = values.get(name, literal)
            parameters.append(value if bind is None else bind(value))
        return parameters

    def converted(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Returns rows of SQLite's with the values that their columns stand for."""
        return [self._converted(row) for row in rows] if self._columns else rows

    def _converted(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index, reader in self._columns:
            values[index] = reader(values[index])
        return tuple(values)


def _binder(bind: BindParameter[Any]) -> Callable[[Any], Any] | None:
    return bind.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)


def _reader(column: Any) -> Callable[[Any], Any] | None:
    kind = column.type.dialect_impl(_DIALECT)
    found: Callable[[Any], Any] | None = kind.result_processor(_DIALECT, None)
    return found


class SqliteThreads:
    """Do one piece of work after another, with whichever connection is free."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._is_open = False
        # Held where a job is put into the queue, which nobody would do behind its end.
        self._queueing = threading.Lock()

    def start(self, connections: Iterable[sqlite3.Connection]) -> None:
        """Starts a thread for each connection, which it closes in the end."""
        for number, connection in enumerate(connections):
            thread = threading.Thread(
                target=self._serve, args=(connection,), name=f"{self._name} {number}", daemon=True
            )
            thread.start()
            self._threads.append(thread)
        self._is_open = True

    async def do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Returns what `work` returns; what nobody waits for any more when its turn comes is
        left out. Raises `sqlite3.ProgrammingError` after `close`."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[T] = loop.create_future()
        with self._queueing:
            if not self._is_open:
                raise sqlite3.ProgrammingError("the database is closed")
            self._jobs.put(_Job(work, loop, found))
        return await found

    def close(self) -> None:
        """Waits until all is done that was asked for, and the threads have ended."""
        with self._queueing:
            self._is_open = False
            for _ in self._threads:
                self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _serve(self, connection: sqlite3.Connection) -> None:
        with closing(connection):
            while (job := self._jobs.get()) is not None:
                job.do(connection)


@dataclass(frozen=True)
class _Job(Generic[T]):
    """A piece of work, and who waits for what comes of it."""

    work: Callable[[sqlite3.Connection], T]
    loop: asyncio.AbstractEventLoop
    found: "asyncio.Future[T]"

    def do(self, connection: sqlite3.Connection) -> None:
        """Does the work."""
        if self.found.cancelled():
            return
        try:
            value = self.work(connection)
        except Exception as error:
            self.loop.call_soon_threadsafe(self._fail, error)
        else:
            self.loop.call_soon_threadsafe(self._settle, value)

    def _settle(self, value: T) -> None:
        if not self.found.done():
            self.found.set_result(value)

    def _fail(self, error: Exception) -> None:
        if not self.found.done():
            self.found.set_exception(error)
