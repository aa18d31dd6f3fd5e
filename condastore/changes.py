"""What is written often: single statements, each committed as soon as it can be.

On SQLite a session visits its thread for each statement, for BEGIN and for COMMIT, and spends ten
times as much on the way as SQLite on the work. Here one visit, and one wait for the disk, is for
all changes that were asked for since the last one.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import cached_property, partial

from sqlalchemy import UpdateBase
from sqlalchemy.ext.asyncio import AsyncEngine

from condastore.database_failures import reaching
from condastore.sqlite import SqliteThreads
from condastore.statements import SQLITE, StatementText
from condastore.views import Rows, Values

# What keeps other writers of this process away, where they have to be.
Alone = Callable[[], AbstractAsyncContextManager[None]]

# Rounds of the event loop after a transaction until those who waited for it have asked for more:
# who has claimed a task claims the next, and a task that does nothing has ended.
_ROUNDS = 3


class Change:
    """A statement that changes rows; its parameters are those that `bindparam` names."""

    def __init__(self, statement: UpdateBase) -> None:
        self.statement = statement

    @cached_property
    def for_sqlite(self) -> StatementText:
        """The text for SQLite, made when it is needed first."""
        return StatementText(self.statement, SQLITE)


class PostgresqlChanges:
    """Makes each change by itself, on a connection of the engine's."""

    def __init__(self, engine: AsyncEngine, alone: Alone) -> None:
        # A statement alone needs no BEGIN and no COMMIT, which are journeys to the server.
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._alone = alone
        self._texts: dict[Change, StatementText] = {}

    async def make(self, change: Change, values: Values) -> Rows:
        """Returns what a change says of the rows, if it does, as soon as it is durable.

        Raises what SQLAlchemy does, and `DatabaseUnavailable`.
        """
        text = self._texts.get(change)
        if text is None:
            text = self._texts[change] = StatementText(change.statement, self._engine.dialect)
        parameters = tuple(text.parameters(values))
        with reaching():
            async with self._alone(), self._engine.connect() as connection:
                found = await connection.exec_driver_sql(text.text, parameters)
                return text.converted([tuple(row) for row in found]) if found.returns_rows else []


class SqliteChanges:
    """Makes all changes that wait in one transaction, and then those that wait by then."""

    def __init__(self, alone: Alone) -> None:
        self._alone = alone
        self._thread = SqliteThreads("writer")
        self._waiting: list[_Asked] = []
        self._committing: asyncio.Task[None] | None = None

    def start(self, connection: sqlite3.Connection) -> None:
        """Starts the thread that has this connection."""
        self._thread.start([connection])

    async def make(self, change: Change, values: Values) -> Rows:
        """Returns what a change says of the rows, if it does, as soon as it is durable.

        One that fails does no harm to the others. Raises `sqlite3.Error`.
        """
        asked = _Asked(change, values, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        if self._committing is None or self._committing.done():
            self._committing = asyncio.create_task(self._commit_all(), name="changes")
        return await asked.found

    async def close(self) -> None:
        """Waits until all is done that was asked for, and the thread has ended."""
        if self._committing is not None:
            await asyncio.wait([self._committing])
        await asyncio.to_thread(self._thread.close)

    async def _commit_all(self) -> None:
        while self._waiting:
            async with self._alone():
                asked, self._waiting = self._waiting, []
                outcomes = await self._outcomes(asked)
            for each, outcome in zip(asked, outcomes, strict=True):
                each.settle(outcome)
            for _ in range(_ROUNDS):
                await asyncio.sleep(0)

    async def _outcomes(self, asked: "Sequence[_Asked]") -> "Sequence[Rows | Exception]":
        try:
            return await self._thread.do(partial(_committed, asked))
        except Exception as error:
            return [error] * len(asked)


@dataclass(frozen=True)
class _Asked:
    """A change, and who waits for it."""

    change: Change
    values: Values
    found: "asyncio.Future[Rows]"

    def settle(self, outcome: Rows | Exception) -> None:
        """Says how it went."""
        if self.found.done():
            return
        if isinstance(outcome, Exception):
            self.found.set_exception(outcome)
        else:
            self.found.set_result(outcome)

    def outcome(self, connection: sqlite3.Connection) -> Rows | Exception:
        """Makes the change in the connection's transaction; raises what has ended that."""
        text = self.change.for_sqlite
        try:
            parameters = text.parameters(self.values)
            return text.converted(connection.execute(text.text, parameters).fetchall())
        except Exception as error:
            # SQLite takes one statement back, but all of them when the disk or the memory fails.
            if not connection.in_transaction:
                raise
            return error


def _committed(
    asked: Sequence[_Asked], connection: sqlite3.Connection
) -> Sequence[Rows | Exception]:
    """Returns what became of each change; those that did not fail are durable."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [each.outcome(connection) for each in asked]
        connection.execute("COMMIT")
    finally:
        # After a commit there is nothing to roll back.
        connection.rollback()
    return outcomes
