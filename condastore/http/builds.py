"""`/api/v1/build/` (rest-api §4.6)."""

from starlette.requests import Request
from starlette.responses import Response

from condastore.builds import ArtifactType, BuildStatus, cancel_message
from condastore.http import artifacts, shapes
from condastore.http.context import caller, parts
from condastore.http.parameters import page_request, path_id, query_enum, query_integer
from condastore.http.problems import json_response
from condastore.service import builds
from condastore.service.builds import BuildFilter, PackageFilter


async def list_(request: Request) -> Response:
    query = request.query_params
    wanted = BuildFilter(
        status=query_enum(query, "status", BuildStatus),
        artifact=query_enum(query, "artifact", ArtifactType),
        packages=query.getlist("packages"),
        environment_id=query_integer(query, "environment_id", 0, minimum=0) or None,
        name=query.get("name", ""),
        namespace=query.get("namespace", ""),
    )
    rows = await builds.list_builds(parts(request), page_request(query), wanted)
    return json_response(shapes.page(rows, shapes.Build.listed))


async def get(request: Request) -> Response:
    build_id = path_id(request, "build_id")
    build = await builds.get_build(parts(request), caller(request), build_id)
    return json_response(shapes.data(shapes.Build.of(build)))


async def rebuild(request: Request) -> Response:
    build_id = path_id(request, "build_id")
    new_id = await builds.rebuild(parts(request), caller(request), build_id)
    return json_response(shapes.data({"build_id": new_id}, "rebuild triggered"))


async def cancel(request: Request) -> Response:
    build_id = path_id(request, "build_id")
    await builds.cancel(parts(request), caller(request), build_id)
    return json_response(shapes.acknowledge(cancel_message(build_id)))


async def delete(request: Request) -> Response:
    build_id = path_id(request, "build_id")
    size = await builds.delete_build(parts(request), caller(request), build_id)
    return json_response(shapes.acknowledge(f"build {build_id} is being deleted ({size} bytes)"))


async def packages(request: Request) -> Response:
    build_id = path_id(request, "build_id")
    query = request.query_params
    wanted = PackageFilter(
        search=query.get("search", ""),
        exact=bool(query.get("exact")),
        build=query.get("build", ""),
    )
    rows = await builds.list_packages(
        parts(request), caller(request), build_id, page_request(query), wanted
    )
    return json_response(shapes.page(rows, shapes.Package.of))


async def lockfile(request: Request) -> Response:
    return await artifacts.respond(request, path_id(request, "build_id"), ArtifactType.LOCKFILE)


async def yaml(request: Request) -> Response:
    return await artifacts.respond(request, path_id(request, "build_id"), ArtifactType.YAML)
