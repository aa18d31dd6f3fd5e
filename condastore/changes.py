"""What is written often: statements that are compiled once, in a transaction that runs in one go.

On SQLite a session visits its thread for each statement, for BEGIN and for COMMIT, and spends ten
times as much on the way as SQLite on the work. This is one visit.
"""

import sqlite3
from collections.abc import Callable
from functools import cached_property
from typing import Protocol, TypeVar

from sqlalchemy import UpdateBase
from sqlalchemy.engine import Connection

from condastore.sqlite import SqliteText
from condastore.views import Rows, Values

T = TypeVar("T")


class Change:
    """A statement that changes rows; its parameters are those that `bindparam` names."""

    def __init__(self, statement: UpdateBase) -> None:
        self.statement = statement

    @cached_property
    def for_sqlite(self) -> SqliteText:
        """The text for SQLite, made when it is needed first."""
        return SqliteText(self.statement)


class Changes(Protocol):
    """A transaction, for as long as a piece of work writes in it."""

    def make(self, change: Change, values: Values) -> Rows:
        """Makes a change; returns what it says of the rows, if it does."""


class SqliteChanges:
    """A transaction on a connection of this thread."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def make(self, change: Change, values: Values) -> Rows:
        """Makes a change; returns what it says of the rows, if it does."""
        text = change.for_sqlite
        return text.converted(
            self._connection.execute(text.text, text.parameters(values)).fetchall()
        )


class ConnectionChanges:
    """A transaction on a connection of SQLAlchemy's."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def make(self, change: Change, values: Values) -> Rows:
        """Makes a change; returns what it says of the rows, if it does."""
        found = self._connection.execute(change.statement, dict(values))
        return [tuple(row) for row in found] if found.returns_rows else []


def committed(work: Callable[[Changes], T], connection: sqlite3.Connection) -> T:
    """Returns what `work` returns; all of its changes are durable, or none is made."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        value = work(SqliteChanges(connection))
        connection.execute("COMMIT")
    finally:
        # After a commit there is nothing to roll back.
        connection.rollback()
    return value
