"""The OpenAPI 3.1 document, made from the routes and the types of their handlers."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, get_args

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from condastore import __version__
from condastore.http.operations import Operation, Resource
from condastore.http.parameters import NoBody
from condastore.http.shapes import Invalid, NoRoute, Problem

Json = dict[str, Any]

REF = "#/components/schemas/{name}"
_PARAMETER = re.compile(r"{(\w+)}")
_ERRORS = {
    "400": ("What was sent breaks a rule", Problem),
    "403": ("The caller lacks a permission", Problem),
    "404": ("What was named does not exist", Problem | NoRoute),
    "408": ("The body does not come", Problem),
    "409": ("The request contradicts the state of what it names", Problem),
    "413": ("The body is too large", Problem),
    "422": ("A path, query or body that can't be read", Invalid),
    "503": ("Not now; try again later", Problem),
    "507": ("There is no room on a disk; the message says on which", Problem),
}
_SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "basic": {"type": "http", "scheme": "basic", "description": "The password is the token."},
    "cookie": {"type": "apiKey", "in": "cookie", "name": "conda-store-auth"},
}


def document(versions: Mapping[str, Iterable[BaseRoute]], url_prefix: str) -> Json:
    """Returns the document of what is served below `/api/{version}`."""
    operations = [
        (f"/api/{version}{route.path}", method, operation)
        for version, routes in versions.items()
        for route in routes
        if isinstance(route, Resource)
        for method, operation in route.operations.items()
    ]
    types = [kind for _, _, operation in operations for kind in _types_of(operation)]
    schemas, components = msgspec.json.schema_components(
        [*types, Problem, NoRoute, Invalid], ref_template=REF
    )
    schema_of = dict(zip([repr(kind) for kind in types], schemas, strict=False))
    paths: dict[str, Json] = {}
    for path, method, operation in operations:
        paths.setdefault(path, {})[method.lower()] = _described(path, method, operation, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "condastore",
            "version": __version__,
            "description": "Builds, versions and serves conda environments. The live log of a "
            "build is also a websocket, at `/api/v1/build/{build_id}/logs/ws`.",
        },
        "servers": [{"url": url_prefix or "/"}],
        "security": [{}, *({name: []} for name in _SECURITY)],
        "paths": paths,
        "components": {"schemas": components, "securitySchemes": _SECURITY},
    }


def _types_of(operation: Operation) -> list[Any]:
    """Returns the types that need schemas: of the query's fields, the body, and the answer."""
    found = [field.type for field in msgspec.structs.fields(operation.query)]
    if operation.body is not NoBody:
        found.append(operation.body)
    if operation.returns is not Response:
        found.append(operation.returns)
    return found


def _described(path: str, method: str, operation: Operation, schema_of: Mapping[str, Json]) -> Json:
    tag = path.split("/")[3] or "about"
    described: Json = {
        "operationId": f"{method.lower()}{_PARAMETER.sub('', path).replace('/', '_')}"
        + "_".join(_PARAMETER.findall(path)),
        "summary": operation.summary,
        "tags": [tag],
        "parameters": [*_path_parameters(path), *_query_parameters(operation, schema_of)],
        "responses": _responses(operation, schema_of),
    }
    if operation.body is not NoBody:
        schema = schema_of[repr(operation.body)]
        described["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    return described


def _path_parameters(path: str) -> list[Json]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": {"type": "integer" if name.endswith("_id") else "string"},
        }
        for name in _PARAMETER.findall(path)
    ]


def _query_parameters(operation: Operation, schema_of: Mapping[str, Json]) -> list[Json]:
    return [
        {
            "name": field.encode_name,
            "in": "query",
            "required": field.required,
            "schema": schema_of[repr(field.type)],
        }
        for field in msgspec.structs.fields(operation.query)
    ]


def _responses(operation: Operation, schema_of: Mapping[str, Json]) -> Json:
    if operation.returns is Response:
        content: Json = {
            kind: {"schema": {"type": "object"}} if kind == "application/json" else {}
            for kind in operation.media_types
        }
    else:
        content = {"application/json": {"schema": schema_of[repr(operation.returns)]}}
    found: Json = {"200": {"description": "Done", "content": content}}
    for status, (description, shape) in _ERRORS.items():
        names = [kind.__name__ for kind in get_args(shape) or (shape,)]
        refs = [{"$ref": REF.format(name=name)} for name in names]
        found[status] = {
            "description": description,
            "content": {"application/json": {"schema": {"anyOf": refs}}},
        }
    return found
