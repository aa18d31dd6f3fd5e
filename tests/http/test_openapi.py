"""The document says what is served, and nothing else."""

import msgspec
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.routing import Route

from condastore.http.app import API, API_V2
from condastore.http.openapi import document

DOCUMENT = document({"v1": API, "v2": API_V2}, "/prefix")


def test_it_is_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()
    assert DOCUMENT["servers"] == [{"url": "/prefix"}]


def test_every_operation_is_there_and_nothing_else() -> None:
    served = {
        (f"/api/{version}{route.path}", method)
        for version, routes in (("v1", API), ("v2", API_V2))
        for route in routes
        if isinstance(route, Route)
        for method in route.methods or ()
    }
    described = {
        (path, method.upper())
        for path, operations in DOCUMENT["paths"].items()
        for method in operations
    }
    assert described == served


@pytest.mark.parametrize("path", DOCUMENT["paths"])
def test_every_operation_says_what_it_does(path: str) -> None:
    for operation in DOCUMENT["paths"][path].values():
        assert operation["summary"].endswith("."), operation
        assert operation["operationId"]
        # Whatever writes can find a disk full.
        assert {"200", "403", "503", "507"} <= operation["responses"].keys()


def test_names_of_operations_are_unique() -> None:
    names = [
        operation["operationId"]
        for operations in DOCUMENT["paths"].values()
        for operation in operations.values()
    ]
    assert len(names) == len(set(names))


def test_it_is_plain_json() -> None:
    assert msgspec.json.decode(msgspec.json.encode(DOCUMENT)) == DOCUMENT
