"""What the users of a namespace may do elsewhere, changed by several at once."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select

from condastore.access import ADMINISTRATOR
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.disk import Disk
from condastore.errors import DiskFull
from condastore.service.namespaces import map_entity
from condastore.tables import AuditEntry, Namespace, NamespaceRoleMapping
from tests.auth.test_identities import identities


async def test_administrators_who_change_role_mappings_at_once_lose_no_change(
    database: Database,
) -> None:
    async with database.write() as session:
        session.add(Namespace(name="team"))
    parts = parts_of(database)
    entities = [f"lab{number}/*" for number in range(8)]
    async with asyncio.TaskGroup() as group:
        for entity in entities:
            group.create_task(map_entity(parts, ADMINISTRATOR, "team", entity, ["viewer"]))
    assert await mapped(database) == [(entity, "viewer") for entity in entities]
    await map_entity(parts, ADMINISTRATOR, "team", entities[0], ["developer"])
    await map_entity(parts, ADMINISTRATOR, "team", entities[1], [])
    rest = [(entity, "viewer") for entity in entities[2:]]
    assert await mapped(database) == [(entities[0], "developer"), *rest]


async def test_a_role_that_is_given_or_taken_back_is_in_the_audit_log(database: Database) -> None:
    async with database.write() as session:
        session.add(Namespace(name="team"))
    parts = parts_of(database)
    await map_entity(parts, ADMINISTRATOR, "team", "lab/*", ["viewer"])
    await map_entity(parts, ADMINISTRATOR, "team", "lab/*", [])
    async with database.read() as session:
        entries = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    assert [(entry.action, entry.namespace, entry.details) for entry in entries] == [
        ("share.replace", "team", {"on": "lab/*", "may": ["viewer"]}),
        ("share.replace", "team", {"on": "lab/*", "may": []}),
    ]


async def test_without_room_roles_can_only_be_taken_back(database: Database) -> None:
    async with database.write() as session:
        session.add(Namespace(name="team"))
    parts = parts_of(database)
    parts.disk.problem = "full"
    with pytest.raises(DiskFull):
        await map_entity(parts, ADMINISTRATOR, "team", "lab/*", ["viewer"])
    await map_entity(parts, ADMINISTRATOR, "team", "lab/*", [])


def parts_of(database: Database) -> Any:
    disk = Disk(CondaStore(), {})
    return SimpleNamespace(database=database, identities=identities(database), disk=disk)


async def mapped(database: Database) -> list[tuple[str, str]]:
    query = select(NamespaceRoleMapping.entity, NamespaceRoleMapping.role)
    async with database.read() as session:
        rows = await session.execute(query.order_by(NamespaceRoleMapping.entity))
        return [(entity, role) for entity, role in rows]
