"""Texts of statements, made once: SQLAlchemy would look for them again each time.

A statement is written with SQLAlchemy like any other; to find its text among those that are kept
takes longer than many a statement runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
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
        if compiled.insert_prefetch or compiled.update_prefetch:
            raise ValueError("defaults that Python makes must be among the statement's values")
        self._dialect = dialect
        self._columns = list(statement.exported_columns)
        self._readers: list[tuple[int, Callable[[Any], Any]]] | None = None
        self.width = len(self._columns)

    def parameters(self, values: Mapping[str, Any]) -> list[Any]:
        """Returns the parameters as the driver takes them."""
        parameters = []
        for name, literal, bind in self._parameters:
            value = values.get(name, literal)
            parameters.append(value if bind is None else bind(value))
        return parameters

    def converted(
        self, rows: Sequence[tuple[Any, ...]], types: Sequence[Any] = ()
    ) -> Sequence[tuple[Any, ...]]:
        """Returns the driver's rows with the values that their columns stand for.

        The types are those by which the driver calls the columns', if it does.
        """
        if self._readers is None:
            self._readers = list(self._make_readers(types))
        return [_read(row, self._readers) for row in rows] if self._readers else rows

    def _make_readers(self, types: Sequence[Any]) -> Iterator[tuple[int, Callable[[Any], Any]]]:
        for index, column in enumerate(self._columns):
            kind = column.type.dialect_impl(self._dialect)
            reader = kind.result_processor(self._dialect, types[index] if types else None)
            if reader is not None:
                yield index, reader


def _read(
    row: tuple[Any, ...], readers: Sequence[tuple[int, Callable[[Any], Any]]]
) -> tuple[Any, ...]:
    values = list(row)
    for index, reader in readers:
        values[index] = reader(values[index])
    return tuple(values)


def _binder(bind: BindParameter[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return bind.type.dialect_impl(dialect).bind_processor(dialect)
