"""Conditions that keep a list to what its caller could also get one by one (rest-api §3)."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, and_, false, or_, true
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import Boolean

from condastore.access import EVERYTHING, Caller
from condastore.tables import Environment, Namespace


class matching(FunctionElement[bool]):  # noqa: N801 - reads as the SQL function that it is
    """Whether a name matches a pattern with `*`, upper and lower case told apart."""

    inherit_cache = True
    type = Boolean()


@compiles(matching, "sqlite")
def _sqlite_matching(element: Any, compiler: Any, **options: Any) -> str:
    name, glob, _ = element.clauses
    return f"{compiler.process(name, **options)} GLOB {compiler.process(glob, **options)}"


@compiles(matching, "postgresql")
def _postgresql_matching(element: Any, compiler: Any, **options: Any) -> str:
    name, _, like = element.clauses
    return f"{compiler.process(name, **options)} LIKE {compiler.process(like, **options)}"


def environment_patterns(caller: Caller) -> tuple[str, ...]:
    """Returns the patterns of the environments that the caller may see."""
    return tuple(caller.patterns("environment::read"))


def namespace_patterns(caller: Caller) -> tuple[str, ...]:
    """Returns the patterns of the namespaces that the caller may see, or environments in them."""
    return tuple(caller.patterns("namespace::read"))


def visible_environments(patterns: Collection[str]) -> ColumnElement[bool]:
    """Returns the condition on environments, and namespaces joined to them."""
    return _any_of(patterns, with_name=True)


def visible_namespaces(patterns: Collection[str]) -> ColumnElement[bool]:
    """Returns the condition on namespaces; whoever may see an environment sees its namespace."""
    return _any_of(patterns, with_name=False)


def whole_namespaces(caller: Caller, permission: str) -> tuple[str, ...]:
    """Returns the patterns of the namespaces on which the caller has a permission.

    One on a part of a namespace is none on it.
    """
    found = (pattern.partition("/") for pattern in caller.patterns(permission))
    return tuple(namespace for namespace, _, name in found if not name.strip("*"))


def in_namespaces(column: Any, patterns: Collection[str]) -> ColumnElement[bool]:
    """Returns the condition that a column names a namespace that one of these patterns matches."""
    return and_(column.is_not(None), or_(*(_matches(column, pattern) for pattern in patterns)))


def _any_of(patterns: Collection[str], *, with_name: bool) -> ColumnElement[bool]:
    if EVERYTHING in patterns:
        return true()
    conditions = []
    for pattern in patterns:
        namespace, _, name = pattern.partition("/")
        condition = _matches(Namespace.name, namespace)
        conditions.append(
            and_(condition, _matches(Environment.name, name)) if with_name else condition
        )
    return or_(*conditions) if conditions else false()


def _matches(column: Any, pattern: str) -> ColumnElement[bool]:
    if "*" not in pattern:
        equal: ColumnElement[bool] = column == pattern
        return equal
    if not pattern.strip("*"):
        return true()
    # Names may hold what GLOB and LIKE take for a wildcard.
    glob = pattern.replace("?", "[?]")
    like = pattern.replace("_", r"\_").replace("*", "%")
    return matching(column, glob, like)
