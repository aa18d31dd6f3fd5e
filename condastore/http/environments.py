"""`/api/v1/environment/` (rest-api §4.5)."""

from starlette.requests import Request
from starlette.responses import Response

from condastore.builds import ArtifactType, BuildStatus
from condastore.http import artifacts, shapes
from condastore.http.context import caller, parts
from condastore.http.parameters import (
    body_integer,
    body_optional_text,
    json_body,
    page_request,
    query_enum,
)
from condastore.http.problems import json_response
from condastore.service import environments
from condastore.service.environments import EnvironmentFilter


async def list_(request: Request) -> Response:
    query = request.query_params
    wanted = EnvironmentFilter(
        search=query.get("search", ""),
        namespace=query.get("namespace", ""),
        name=query.get("name", ""),
        status=query_enum(query, "status", BuildStatus),
        artifact=query_enum(query, "artifact", ArtifactType),
        packages=query.getlist("packages"),
    )
    rows = await environments.list_environments(parts(request), page_request(query), wanted)
    return json_response(shapes.page(rows, shapes.Environment.of))


async def get(request: Request) -> Response:
    namespace, name = _named(request)
    row = await environments.get_environment(parts(request), caller(request), namespace, name)
    return json_response(shapes.data(shapes.Environment.of(row)))


async def update(request: Request) -> Response:
    namespace, name = _named(request)
    body = await json_body(request)
    await environments.update_environment(
        parts(request),
        caller(request),
        namespace,
        name,
        build_id=body_integer(body, "build_id"),
        description=body_optional_text(body, "description"),
    )
    return json_response(shapes.acknowledge())


async def delete(request: Request) -> Response:
    namespace, name = _named(request)
    size = await environments.delete_environment(parts(request), caller(request), namespace, name)
    return json_response(
        shapes.acknowledge(f"environment {namespace}/{name} is being deleted ({size} bytes)")
    )


async def lockfile(request: Request) -> Response:
    namespace, name = _named(request)
    row = await environments.get_environment(parts(request), caller(request), namespace, name)
    return await artifacts.respond(request, row.current_build_id or 0, ArtifactType.LOCKFILE)


def _named(request: Request) -> tuple[str, str]:
    return request.path_params["namespace"], request.path_params["environment"]
