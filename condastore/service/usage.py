"""How much the namespaces hold (rest-api §4.2)."""

from dataclasses import dataclass

from sqlalchemy import BigInteger, cast, func, select

from condastore.access import Caller
from condastore.service.parts import Parts
from condastore.service.visibility import namespace_patterns, visible_namespaces
from condastore.tables import Build, Environment, Namespace


@dataclass(frozen=True)
class Usage:
    """What a namespace holds."""

    namespace: str
    environments: int
    builds: int
    bytes: int


async def usage(parts: Parts, caller: Caller) -> list[Usage]:
    """Returns what the namespaces that the caller may see hold, of those that have builds."""
    query = (
        select(
            Namespace.name,
            func.count(Environment.id.distinct()),
            func.count(Build.id),
            # A sum is a decimal number on PostgreSQL.
            cast(func.coalesce(func.sum(Build.size), 0), BigInteger),
        )
        .join(Environment, Environment.namespace_id == Namespace.id)
        .join(Build, Build.environment_id == Environment.id)
        .where(Namespace.deleted_on.is_(None), visible_namespaces(namespace_patterns(caller)))
        .group_by(Namespace.name)
        .order_by(Namespace.name)
    )
    async with parts.database.read() as session:
        return [Usage(*row) for row in await session.execute(query)]
