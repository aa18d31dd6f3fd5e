"""`/api/v1/environment/` and `/api/v2/environment/` (rest-api §4.5, §5)."""

from enum import StrEnum
from typing import Any

import msgspec
from starlette.responses import Response

from condastore.builds import ArtifactType, BuildStatus
from condastore.http import forms, shapes
from condastore.http.forms import LOCKFILE_MEDIA_TYPES, LockfileQuery
from condastore.http.operations import Call, Plain, answers, stored
from condastore.http.parameters import Body, NoBody, NoQuery, at_least, page_request
from condastore.service import environments
from condastore.service.environments import EnvironmentFilter
from condastore.service.pages import CursorRequest

MAX_LIMIT = 1000


class Order(StrEnum):
    asc = "asc"
    desc = "desc"


class Filter(msgspec.Struct, kw_only=True):
    """Which environments; status, artifact and packages are of the current build."""

    search: str = ""
    namespace: str = ""
    name: str = ""
    status: BuildStatus | None = None
    artifact: ArtifactType | None = None
    packages: list[str] = []
    jwt: str | None = None

    def wanted(self) -> EnvironmentFilter:
        """Returns the filter of the service."""
        return EnvironmentFilter(
            self.search,
            self.namespace,
            self.name,
            self.status,
            self.artifact,
            self.packages,
            self.jwt or None,
        )


class ListQuery(Filter, kw_only=True):
    """Which environments, a page at a time."""

    page: int = 1
    size: int | None = None
    sort_by: list[str] = []
    order: str = ""


class CursorQuery(Filter, kw_only=True):
    """Which environments, from a cursor on."""

    cursor: str | None = None
    limit: int | None = None
    order: Order = Order.asc
    sort_by: list[str] = []

    def request(self, max_size: int) -> CursorRequest:
        """Returns what is wanted. Raises `Unprocessable`."""
        limit = max_size if self.limit is None else at_least(1, self.limit, "limit")
        names = [name for value in self.sort_by for name in value.split(",") if name]
        return CursorRequest(self.cursor, min(limit, MAX_LIMIT), names, self.order is Order.desc)


class EnvironmentChange(Body, kw_only=True):
    """What to change; what is absent stays."""

    build_id: int | None = None
    description: str | None = None


async def list_(call: Call[ListQuery, NoBody]) -> shapes.Listed[shapes.Environment]:
    """The environments that the caller may see."""
    request = page_request(call.query, call.max_page_size)
    rows = await environments.list_environments(
        call.parts, call.caller, request, call.query.wanted()
    )
    return shapes.page(rows, shapes.Environment.of)


async def continue_(call: Call[CursorQuery, NoBody]) -> shapes.EnvironmentCursorPage:
    """The environments that the caller may see, from a cursor on."""
    request = call.query.request(call.max_page_size)
    found = await environments.continue_environments(
        call.parts, call.caller, request, call.query.wanted()
    )
    return shapes.EnvironmentCursorPage(
        data=[shapes.EnvironmentV2.of(row) for row in found.rows],
        cursor=found.cursor,
        count=found.count,
    )


async def get(call: Plain) -> shapes.Data[shapes.Environment]:
    """One environment."""
    row = await environments.get_environment(call.parts, call.caller, *_named(call))
    return shapes.data(shapes.Environment.of(row))


async def update(call: Call[NoQuery, EnvironmentChange]) -> shapes.Acknowledgement:
    """Changes an environment's description, or which of its builds is the current one."""
    await environments.update_environment(
        call.parts,
        call.caller,
        *_named(call),
        build_id=call.body.build_id,
        description=call.body.description,
    )
    return shapes.acknowledge()


async def delete(call: Plain) -> shapes.Acknowledgement:
    """Deletes an environment with all its builds."""
    namespace, name = _named(call)
    size = await environments.delete_environment(call.parts, call.caller, namespace, name)
    return shapes.acknowledge(f"environment {namespace}/{name} is being deleted ({size} bytes)")


@stored
@answers(*LOCKFILE_MEDIA_TYPES)
async def lockfile(call: Call[LockfileQuery, NoBody]) -> Response:
    """The lockfile of an environment's current build."""
    build_id = await environments.current_build(call.parts, call.caller, *_named(call))
    return await forms.lockfile(call, build_id)


def _named(call: Call[Any, Any]) -> tuple[str, str]:
    return call.path("namespace"), call.path("environment")
