"""`/api/v1/namespace/` (rest-api §4.3)."""

from starlette.requests import Request
from starlette.responses import Response

from condastore.http import shapes
from condastore.http.context import caller, parts
from condastore.http.parameters import page_request
from condastore.http.problems import json_response
from condastore.service import namespaces


async def list_(request: Request) -> Response:
    rows = await namespaces.list_namespaces(parts(request), page_request(request.query_params))
    body = shapes.page(rows, shapes.ListedNamespace.of)
    # conda-store drops what equals its default from this one list.
    del body["message"]
    return json_response(body)


async def get(request: Request) -> Response:
    name = request.path_params["namespace"]
    namespace = await namespaces.get_namespace(parts(request), caller(request), name)
    return json_response(shapes.data(shapes.Namespace.of(namespace)))


async def create(request: Request) -> Response:
    name = request.path_params["namespace"]
    await namespaces.create_namespace(parts(request), caller(request), name)
    return json_response(shapes.acknowledge())


async def delete(request: Request) -> Response:
    name = request.path_params["namespace"]
    size = await namespaces.delete_namespace(parts(request), caller(request), name)
    return json_response(shapes.acknowledge(f"namespace {name} is being deleted ({size} bytes)"))
