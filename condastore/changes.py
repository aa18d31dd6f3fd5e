"""What is written often: single statements, each committed as soon as it can be."""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import UpdateBase
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine

from condastore.database_failures import past_sqlalchemy
from condastore.sqlite_threads import SqliteThreads
from condastore.statements import SQLITE, StatementText
from condastore.views import Rows, Values

# What a write happens in: it is noted, and where there is one writer at a time, it has its turn.
Writing = Callable[[], AbstractAsyncContextManager[None]]

# Rounds of the event loop after a transaction until those who waited for it have asked for more:
# who has claimed a task claims the next, and a task that does nothing has ended.
_ROUNDS = 3


class Change:
    """A statement that changes rows; its parameters are those that `bindparam` names."""

    def __init__(self, statement: UpdateBase) -> None:
        self._statement = statement
        self._texts: dict[str, StatementText] = {}

    def text(self, dialect: Dialect) -> StatementText:
        """Returns the text for a database, made when it is needed first."""
        text = self._texts.get(dialect.name)
        if text is None:
            text = self._texts[dialect.name] = StatementText(self._statement, dialect)
        return text


class PostgresqlChanges:
    """Makes each change by itself, on a connection of the engine's."""

    def __init__(self, engine: AsyncEngine, writing: Writing) -> None:
        # A statement alone needs no BEGIN and no COMMIT, which are journeys to the server.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._writing = writing

    async def make(self, change: Change, values: Values) -> Rows:
        """Returns what a change says of the rows, if it does, as soon as it is durable.

        Raises what SQLAlchemy does, and `DatabaseUnavailable`.
        """
        text = change.text(self._engine.dialect)
        parameters = tuple(text.parameters(values))
        with past_sqlalchemy():
            async with self._writing(), self._engine.connect() as connection:
                result = await connection.exec_driver_sql(text.text, parameters)
                if not result.returns_rows:
                    return []
                types = [column[1] for column in result.cursor.description]
                return text.converted([tuple(row) for row in result], types)


class SqliteChanges:
    """Makes all changes that wait in one transaction, and then those that wait by then.

    A session visits its thread for each statement, for BEGIN and for COMMIT, and spends ten times
    as much on the way as SQLite on the work. Here all who wait share one visit, and one wait for
    the disk.
    """

    def __init__(self, writing: Writing) -> None:
        self._writing = writing
        self._thread = SqliteThreads("writer")
        self._waiting: list[_Asked] = []
        self._committing: asyncio.Task[None] | None = None
        self._is_closed = False

    def start(self, connection: sqlite3.Connection) -> None:
        """Starts the thread that has this connection."""
        self._thread.start([connection])

    async def make(self, change: Change, values: Values) -> Rows:
        """Returns what a change says of the rows, if it does, as soon as it is durable.

        One that fails does no harm to the others. One that is cancelled before its turn is not
        made, else it is. Raises `sqlite3.Error`.
        """
        if self._is_closed:
            raise sqlite3.ProgrammingError("the database is closed")
        text = change.text(SQLITE)
        answer: asyncio.Future[Rows] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Asked(text, text.parameters(values), answer))
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="changes")
        return await answer

    async def close(self) -> None:
        """Waits until all is done that was asked for, and the thread has ended."""
        self._is_closed = True
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await asyncio.to_thread(self._thread.close)

    async def _commit_all(self) -> None:
        while self._waiting:
            async with self._writing():
                batch = [asked for asked in self._waiting if not asked.answer.cancelled()]
                self._waiting.clear()
                outcomes = await self._outcomes(batch)
            for asked, outcome in zip(batch, outcomes, strict=True):
                asked.tell(outcome)
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)

    async def _outcomes(self, batch: "Sequence[_Asked]") -> "Sequence[Rows | Exception]":
        try:
            return await self._thread.do(partial(_made, batch))
        except Exception as error:
            return [error] * len(batch)


@dataclass(frozen=True)
class _Asked:
    """A change that somebody waits for."""

    text: StatementText
    parameters: Sequence[Any]
    answer: "asyncio.Future[Rows]"

    def make_on(self, connection: sqlite3.Connection) -> Rows:
        """Makes the change in the connection's transaction."""
        rows = connection.execute(self.text.text, self.parameters).fetchall()
        return self.text.converted(rows)

    def tell(self, outcome: Rows | Exception) -> None:
        """Says how it went, if somebody still waits."""
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


def _made(batch: Sequence[_Asked], connection: sqlite3.Connection) -> Sequence[Rows | Exception]:
    """Returns what became of each: together they are durable, or else each that did not fail is.

    Raises `sqlite3.Error` if there can be no transaction now.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        rows = [asked.make_on(connection) for asked in batch]
        connection.execute("COMMIT")
        return rows
    except Exception as error:
        connection.rollback()
        if len(batch) == 1:
            return [error]
    return [_made_alone(asked, connection) for asked in batch]


def _made_alone(asked: _Asked, connection: sqlite3.Connection) -> Rows | Exception:
    try:
        [outcome] = _made([asked], connection)
    except sqlite3.Error as error:
        return error
    return outcome
