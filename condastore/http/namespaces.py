"""`/api/v1/namespace/` (rest-api §4.3)."""

from typing import Any

import msgspec

from condastore.http import shapes
from condastore.http.operations import Call, Plain
from condastore.http.parameters import Body, NoBody, NoQuery, PageQuery, page_request
from condastore.service import namespaces, roles

Json = dict[str, Any]


class NamespaceChange(Body, kw_only=True):
    """What to replace; what is absent or null stays."""

    metadata: Json | None = None
    role_mappings: dict[str, list[str]] | None = None


class Other(Body, kw_only=True):
    other_namespace: str


class Grant(Other, kw_only=True):
    """What the users of another namespace may do."""

    role: str


class OtherQuery(msgspec.Struct, kw_only=True):
    other_namespace: str


async def list_(call: Call[PageQuery, NoBody]) -> shapes.NamespaceList:
    """The namespaces that the caller may see."""
    request = page_request(call.query, call.max_page_size)
    rows = await namespaces.list_namespaces(call.parts, call.caller, request)
    found = [shapes.ListedNamespace.of(row) for row in rows.rows]
    return shapes.NamespaceList(data=found, page=rows.page, size=rows.size, count=rows.count)


async def get(call: Plain) -> shapes.Data[shapes.Namespace]:
    """One namespace with its metadata and role mappings."""
    namespace = await namespaces.get_namespace(call.parts, call.caller, _name(call))
    return shapes.data(shapes.Namespace.of(namespace))


async def create(call: Plain) -> shapes.Acknowledgement:
    """Makes a namespace."""
    await namespaces.create_namespace(call.parts, call.caller, _name(call))
    return shapes.acknowledge()


async def update(call: Call[NoQuery, NamespaceChange]) -> shapes.Acknowledgement:
    """Replaces a namespace's metadata, and what its users may do elsewhere."""
    await namespaces.update_namespace(
        call.parts,
        call.caller,
        _name(call),
        metadata=call.body.metadata,
        role_mappings=call.body.role_mappings,
    )
    return shapes.acknowledge()


async def update_metadata(call: Call[NoQuery, dict[str, Any]]) -> shapes.Acknowledgement:
    """Replaces a namespace's metadata by the body."""
    await namespaces.update_namespace(call.parts, call.caller, _name(call), metadata=call.body)
    return shapes.acknowledge()


async def delete(call: Plain) -> shapes.Acknowledgement:
    """Deletes a namespace with all it holds."""
    name = _name(call)
    size = await namespaces.delete_namespace(call.parts, call.caller, name)
    return shapes.acknowledge(f"namespace {name} is being deleted ({size} bytes)")


async def list_roles(call: Plain) -> shapes.Data[list[shapes.Role]]:
    """What the users of other namespaces may do in this one."""
    found = await roles.list_roles(call.parts, call.caller, _name(call))
    return shapes.data([shapes.Role.of(role) for role in found])


async def delete_roles(call: Plain) -> shapes.Acknowledgement:
    """Closes a namespace to the users of all others."""
    await roles.delete_roles(call.parts, call.caller, _name(call))
    return shapes.acknowledge()


async def get_role(call: Call[OtherQuery, NoBody]) -> shapes.Data[shapes.Role]:
    """What the users of one other namespace may do in this one."""
    role = await roles.get_role(call.parts, call.caller, _name(call), call.query.other_namespace)
    return shapes.data(shapes.Role.of(role))


async def create_role(call: Call[NoQuery, Grant]) -> shapes.Acknowledgement:
    """Opens a namespace to the users of another one."""
    grant = call.body
    await roles.create_role(call.parts, call.caller, _name(call), grant.other_namespace, grant.role)
    return shapes.acknowledge()


async def update_role(call: Call[NoQuery, Grant]) -> shapes.Acknowledgement:
    """Changes what the users of another namespace may do in this one."""
    grant = call.body
    await roles.update_role(call.parts, call.caller, _name(call), grant.other_namespace, grant.role)
    return shapes.acknowledge()


async def delete_role(call: Call[NoQuery, Other]) -> shapes.Acknowledgement:
    """Closes a namespace to the users of another one."""
    await roles.delete_role(call.parts, call.caller, _name(call), call.body.other_namespace)
    return shapes.acknowledge()


def _name(call: Call[Any, Any]) -> str:
    return call.path("namespace")
