"""What a request says, and what it is told that says it wrong."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from starlette.requests import Request

from condastore.builds import BuildStatus
from condastore.errors import TooLarge, Unprocessable
from condastore.http.parameters import (
    body_flag,
    body_integer,
    body_optional_text,
    body_text,
    json_body,
    page_request,
    path_id,
    query_enum,
    query_flag,
    query_integer,
)


def request(*chunks: bytes, **path: str) -> Request:
    left = list(chunks) or [b""]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    scope = {"type": "http", "method": "POST", "path_params": path, "headers": []}
    return Request(scope, receive)


def query(text: str) -> QueryParams:
    return QueryParams(text)


def entry_of(caught: pytest.ExceptionInfo[Unprocessable]) -> dict[str, Any]:
    [entry] = caught.value.detail
    return entry


# Numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [("7", 7), ("+7", 7), ("-7", -7), ("0", 0), ("-0", 0), ("007", 7), ("0" * 40 + "7", 7)],
)
def test_a_number_in_the_path(text: str, value: int) -> None:
    assert path_id(request(build_id=text), "build_id") == value


@pytest.mark.parametrize("text", ["", "x", "1.0", "1_0", " 1", "٣", "1e3", "0x10", "--1", "+"])
def test_what_is_no_number_is_told_as_fastapi_does(text: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        path_id(request(build_id=text), "build_id")
    assert entry_of(caught) == {
        "type": "int_parsing",
        "loc": ["path", "build_id"],
        "msg": "Input should be a valid integer, unable to parse string as an integer",
        "input": text,
    }


@given(st.integers())
def test_numbers_are_read_as_they_are_and_huge_ones_stay_huge(number: int) -> None:
    value = path_id(request(x=str(number)), "x")
    assert value == number or (abs(number) >= 10**20 and abs(value) > 2**63)


def test_a_number_of_a_megabyte_costs_nothing() -> None:
    assert path_id(request(x="9" * 1_000_000), "x") > 2**63


def test_a_number_in_the_query_has_a_default_and_a_least_value() -> None:
    assert query_integer(query(""), "page", 1) == 1
    assert query_integer(query("page=3&page=4"), "page", 1) == 4
    assert query_integer(query("offset=0"), "offset", 0, minimum=0) == 0
    with pytest.raises(Unprocessable) as caught:
        query_integer(query("page=0"), "page", 1)
    assert entry_of(caught) == {
        "type": "greater_than_equal",
        "loc": ["query", "page"],
        "msg": "Input should be greater than or equal to 1",
        "input": "0",
        "ctx": {"ge": 1},
    }


# The query


def test_an_enum_is_named_exactly() -> None:
    assert query_enum(query("status=FAILED"), "status", BuildStatus) is BuildStatus.FAILED
    assert query_enum(query(""), "status", BuildStatus) is None
    with pytest.raises(Unprocessable) as caught:
        query_enum(query("status=failed"), "status", BuildStatus)
    entry = entry_of(caught)
    assert entry["msg"].startswith("Input should be 'QUEUED', 'BUILDING', ")
    assert entry["msg"].endswith(" or 'CANCELED'")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", False),
        ("follow=0", False),
        ("follow=", False),
        ("follow=1", True),
        ("follow=True", True),
    ],
)
def test_a_flag(text: str, value: bool) -> None:
    assert query_flag(query(text), "follow") is value


def test_a_page_is_never_longer_than_the_longest() -> None:
    page = page_request(query("page=2&size=1000&sort_by=a&sort_by=b&order=desc"))
    assert (page.page, page.size, page.sort_by, page.descending) == (2, 100, ["a", "b"], True)
    page = page_request(query(""))
    assert (page.page, page.size, page.sort_by, page.descending) == (1, 100, [], False)


# The body


@pytest.mark.parametrize(
    ("chunks", "value"),
    [([], {}), ([b"  "], {}), ([b'{"a":', b" 1}"], {"a": 1}), (['{"é": 1}'.encode()], {"é": 1})],
)
async def test_a_body_is_an_object(chunks: list[bytes], value: dict[str, Any]) -> None:
    assert await json_body(request(*chunks)) == value


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "json_invalid"),
        (b"\xff", "json_invalid"),
        (b"[" * 100_000, "json_invalid"),
        (b"9" * 5000, "json_invalid"),
        (b"[]", "model_attributes_type"),
        (b"null", "model_attributes_type"),
        (b"7", "model_attributes_type"),
    ],
)
async def test_a_body_that_is_none_is_told_so(body: bytes, kind: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        await json_body(request(body), max_bytes=200_000)
    entry = entry_of(caught)
    assert entry["type"] == kind
    json.dumps(entry)


async def test_a_body_that_is_too_large_is_refused_before_it_has_all_come() -> None:
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        taken += 1
        return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

    endless = Request({"type": "http", "method": "POST", "headers": []}, receive)
    with pytest.raises(TooLarge, match="larger than 5000 bytes"):
        await json_body(endless, max_bytes=5000)
    assert taken == 6


async def test_a_body_of_the_largest_size_is_taken() -> None:
    body = b'{"a": "' + b"x" * 91 + b'"}'
    assert len(body) == 100
    assert await json_body(request(body), max_bytes=100)


# Fields


def test_fields_of_the_right_type() -> None:
    body = {"text": "x", "none": None, "yes": True, "number": 7, "digits": "8"}
    assert body_text(body, "text") == "x"
    assert body_text(body, "none", "default") == body_text(body, "absent", "default") == "default"
    assert body_optional_text(body, "none") is body_optional_text(body, "absent") is None
    assert body_flag(body, "yes") is True
    assert body_flag(body, "absent") is False
    assert body_integer(body, "number") == 7
    assert body_integer(body, "digits") == 8
    assert body_integer(body, "none") is None


@pytest.mark.parametrize(
    ("read", "value", "kind"),
    [
        (body_text, 7, "string_type"),
        (body_text, ["x"], "string_type"),
        (body_text, "\ud800", "string_unicode"),
        (body_optional_text, {}, "string_type"),
        (body_flag, 1, "bool_type"),
        (body_flag, "true", "bool_type"),
        (body_integer, True, "int_type"),
        (body_integer, 1.5, "int_type"),
        (body_integer, "seven", "int_parsing"),
    ],
)
def test_fields_of_another_type_are_told_so(read: Any, value: Any, kind: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        read({"field": value}, "field")
    entry = entry_of(caught)
    assert (entry["type"], entry["loc"]) == (kind, ["body", "field"])
