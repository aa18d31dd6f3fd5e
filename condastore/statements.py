"""Texts of statements, made once: SQLAlchemy would look for them again each time.

A statement is written with SQLAlchemy like any other; to find its text among those that are kept
takes longer than many a statement runs.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect

SQLITE = sqlite.dialect(paramstyle="qmark")


class StatementText:
    """The text of a statement, and how its parameters go in and its columns come out."""

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text = str(compiled)
        literals = compiled.params
        names: Sequence[str] = compiled.positiontup or ()
        binds: Mapping[str, BindParameter[Any]] = compiled.binds
        self._parameters = [(name, literals[name], _binder(binds[name], dialect)) for name in names]
        self.width = len(statement.exported_columns)
        readers = enumerate(_reader(column, dialect) for column in statement.exported_columns)
        self._columns = [(index, reader) for index, reader in readers if reader is not None]

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """Returns the parameters as the driver takes them."""
        parameters = []
        for name, literal, bind in self._parameters:
            value = values.get(name, literal)
            parameters.append(value if bind is None else bind(value))
        return parameters

    def converted(self, rows: Sequence[tuple[Any, ...]]) -> Sequence[tuple[Any, ...]]:
        """Returns the driver's rows with the values that their columns stand for."""
        return [self._converted(row) for row in rows] if self._columns else rows

    def _converted(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        values = list(row)
        for index, reader in self._columns:
            values[index] = reader(values[index])
        return tuple(values)


def _binder(bind: BindParameter[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return bind.type.dialect_impl(dialect).bind_processor(dialect)


def _reader(column: Any, dialect: Dialect) -> Callable[[Any], Any] | None:
    kind = column.type.dialect_impl(dialect)
    found: Callable[[Any], Any] | None = kind.result_processor(dialect, None)
    return found
