"""Namespaces."""

from sqlalchemy import select
from sqlalchemy.orm import selectinload

from condastore.access import Caller
from condastore.errors import Conflict, NotFound
from condastore.names import check_name
from condastore.service.builds import settle_canceled
from condastore.service.environments import mark_deleted
from condastore.service.pages import Page, PageRequest, page_of
from condastore.service.parts import Parts
from condastore.tables import Environment, Namespace, utcnow
from condastore.tasks import enqueue


async def list_namespaces(parts: Parts, request: PageRequest) -> Page[Namespace]:
    """Returns a page of the namespaces."""
    query = select(Namespace).where(Namespace.deleted_on.is_(None))
    async with parts.database.read() as session:
        return await page_of(session, query, request, {"name": Namespace.name}, ["name"])


async def get_namespace(parts: Parts, caller: Caller, name: str) -> Namespace:
    """Returns a namespace with its role mappings. Raises `NotFound`."""
    caller.require("namespace::read", name)
    query = (
        select(Namespace)
        .where(Namespace.name == name, Namespace.deleted_on.is_(None))
        .options(selectinload(Namespace.role_mappings))
    )
    async with parts.database.read() as session:
        namespace = await session.scalar(query)
    if namespace is None:
        raise NotFound("namespace does not exist")
    return namespace


async def create_namespace(parts: Parts, caller: Caller, name: str) -> None:
    """Makes a namespace. Raises `Conflict` if there is one, also while it is being deleted."""
    caller.require("namespace::create", name)
    check_name(name)
    async with parts.database.write() as session:
        if await session.scalar(select(Namespace.id).where(Namespace.name == name)) is not None:
            raise Conflict("namespace already exists")
        session.add(Namespace(name=name))


async def delete_namespace(parts: Parts, caller: Caller, name: str) -> int:
    """Marks a namespace and all that it holds as deleted, and queues the removal of the files.

    Returns the size of its builds in bytes.
    """
    caller.require("namespace::delete", name)
    async with parts.database.write() as session:
        namespace = await session.scalar(
            select(Namespace).where(Namespace.name == name, Namespace.deleted_on.is_(None))
        )
        if namespace is None:
            raise NotFound("namespace does not exist")
        namespace.deleted_on = utcnow()
        environments = await session.scalars(
            select(Environment).where(Environment.namespace_id == namespace.id)
        )
        builds, canceled = await mark_deleted(session, environments.all())
        enqueue(session, "delete_namespace", name, payload={"namespace_id": namespace.id})
    await settle_canceled(parts, canceled)
    parts.pool.wake()
    return sum(build.size for build in builds)
