"""What the users of a namespace may do elsewhere, changed by several at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select

from condastore.access import ADMINISTRATOR
from condastore.database import Database
from condastore.service.namespaces import map_entity
from condastore.tables import Namespace, NamespaceRoleMapping
from tests.auth.test_identities import identities


async def test_administrators_who_change_role_mappings_at_once_lose_no_change(
    database: Database,
) -> None:
    async with database.write() as session:
        session.add(Namespace(name="team"))
    parts: Any = SimpleNamespace(database=database, identities=identities(database))
    entities = [f"lab{number}/*" for number in range(8)]
    async with asyncio.TaskGroup() as group:
        for entity in entities:
            group.create_task(map_entity(parts, ADMINISTRATOR, "team", entity, ["viewer"]))
    assert await mapped(database) == [(entity, "viewer") for entity in entities]
    await map_entity(parts, ADMINISTRATOR, "team", entities[0], ["developer"])
    await map_entity(parts, ADMINISTRATOR, "team", entities[1], [])
    rest = [(entity, "viewer") for entity in entities[2:]]
    assert await mapped(database) == [(entities[0], "developer"), *rest]


async def mapped(database: Database) -> list[tuple[str, str]]:
    query = select(NamespaceRoleMapping.entity, NamespaceRoleMapping.role)
    async with database.read() as session:
        rows = await session.execute(query.order_by(NamespaceRoleMapping.entity))
        return [(entity, role) for entity, role in rows]
