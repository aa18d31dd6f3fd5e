"""What a request says, and what it is told that says it wrong."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import QueryParams
from starlette.requests import Request

from condastore.builds import BuildStatus
from condastore.errors import TooLarge, Unprocessable
from condastore.http.parameters import (
    Body,
    PageQuery,
    at_least,
    decode_query,
    json_body,
    page_request,
    path_id,
)


class Query(PageQuery, kw_only=True):
    """One field of each kind."""

    status: BuildStatus | None = None
    follow: bool = False
    search: str = ""
    number: int | None = None


class Fields(Body, kw_only=True):
    """One field of each kind."""

    name: str
    text: str | None = None
    yes: bool = False
    number: int | None = None
    mapping: dict[str, list[str]] = {}
    anything: dict[str, Any] = {}
    when: datetime | None = None


Anything = dict[str, Any]


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


@pytest.mark.parametrize("size", ["0", "-1"])
def test_a_page_without_rows_is_refused(size: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        page_request(decode_query(Query, query(f"size={size}")), 100)
    assert entry_of(caught) == {
        "type": "greater_than_equal",
        "loc": ["query", "size"],
        "msg": "Input should be greater than or equal to 1",
        "input": size,
        "ctx": {"ge": 1},
    }
    assert at_least(0, 0, "offset") == 0


# The query


def test_what_is_absent_has_its_default_and_the_last_of_several_counts() -> None:
    assert decode_query(Query, query("")) == Query()
    assert decode_query(Query, query("number=3&number=4&unknown=5")).number == 4


def test_an_enum_is_named_exactly() -> None:
    assert decode_query(Query, query("status=FAILED")).status is BuildStatus.FAILED
    with pytest.raises(Unprocessable) as caught:
        decode_query(Query, query("status=failed"))
    entry = entry_of(caught)
    assert (entry["type"], entry["loc"], entry["input"]) == ("enum", ["query", "status"], "failed")
    assert entry["msg"] == (
        "Input should be 'QUEUED', 'BUILDING', 'COMPLETED', 'FAILED' or 'CANCELED'"
    )


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
    assert decode_query(Query, query(text)).follow is value


def test_everything_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(Unprocessable) as caught:
        decode_query(Query, query("status=x&follow=maybe&page=one"))
    assert [entry["loc"] for entry in caught.value.detail] == [
        ["query", "page"],
        ["query", "status"],
        ["query", "follow"],
    ]


def test_a_page_is_never_longer_than_the_longest() -> None:
    wanted = decode_query(Query, query("page=2&size=1000&sort_by=a&sort_by=b&order=desc"))
    page = page_request(wanted, 100)
    assert (page.page, page.size, page.sort_by, page.descending) == (2, 100, ["a", "b"], True)
    page = page_request(Query(), 100)
    assert (page.page, page.size, page.sort_by, page.descending) == (1, 100, [], False)


# The body


@pytest.mark.parametrize(
    ("chunks", "value"),
    [([], {}), ([b"  "], {}), ([b'{"a":', b" 1}"], {"a": 1}), (['{"é": 1}'.encode()], {"é": 1})],
)
async def test_a_body_is_an_object(chunks: list[bytes], value: dict[str, Any]) -> None:
    assert await json_body(request(*chunks), Anything, 1000) == value


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "json_invalid"),
        (b"\xff", "json_invalid"),
        (b"[" * 100_000, "json_invalid"),
        (b"9" * 5000, "json_invalid"),
        (b'{"name": NaN}', "json_invalid"),
        (b"[]", "model_attributes_type"),
        (b"null", "model_attributes_type"),
        (b"7", "model_attributes_type"),
    ],
)
async def test_a_body_that_is_none_is_told_so(body: bytes, kind: str) -> None:
    with pytest.raises(Unprocessable) as caught:
        await json_body(request(body), Fields, 200_000)
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
        await json_body(endless, Fields, 5000)
    assert taken == 6


async def test_a_body_of_the_largest_size_is_taken() -> None:
    body = b'{"a": "' + b"x" * 91 + b'"}'
    assert len(body) == 100
    assert await json_body(request(body), Anything, 100)


@pytest.mark.parametrize("body", [b"[]", b"null", b"7", b'"x"'])
async def test_a_body_of_any_keys_must_be_an_object(body: bytes) -> None:
    with pytest.raises(Unprocessable) as caught:
        await json_body(request(body), Anything, 100)
    assert (entry_of(caught)["type"], entry_of(caught)["loc"]) == ("dict_type", ["body"])


# Fields


async def fields(**given: Any) -> Fields:
    found: Fields = await json_body(request(json.dumps(given).encode()), Fields, 100_000)
    return found


async def test_fields_of_the_right_type() -> None:
    found = await fields(
        name="x",
        text=None,
        yes=True,
        number="8",
        mapping={"a": ["b"]},
        anything={"deep": [{"x": 1}]},
        when="2027-01-31T12:00:00Z",
        unknown=7,
    )
    assert found == Fields(
        name="x",
        yes=True,
        number=8,
        mapping={"a": ["b"]},
        anything={"deep": [{"x": 1}]},
        when=datetime(2027, 1, 31, 12, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("given_fields", "kind", "place"),
    [
        ({}, "missing", ["body", "name"]),
        ({"name": 7}, "string_type", ["body", "name"]),
        ({"name": None}, "string_type", ["body", "name"]),
        ({"name": ["x"]}, "string_type", ["body", "name"]),
        ({"name": "\ud800"}, "string_unicode", ["body", "name"]),
        ({"name": "x", "yes": "maybe"}, "bool_type", ["body", "yes"]),
        ({"name": "x", "yes": {}}, "bool_type", ["body", "yes"]),
        ({"name": "x", "number": "x"}, "int_parsing", ["body", "number"]),
        ({"name": "x", "number": 1.5}, "int_type", ["body", "number"]),
        ({"name": "x", "number": True}, "int_type", ["body", "number"]),
        ({"name": "x", "mapping": "x"}, "dict_type", ["body", "mapping"]),
        ({"name": "x", "mapping": {"a": "b"}}, "list_type", ["body", "mapping", "a"]),
        ({"name": "x", "mapping": {"a": [7]}}, "string_type", ["body", "mapping", "a", 0]),
        ({"name": "x", "mapping": {"\ud800": []}}, "string_unicode", ["body", "mapping"]),
        ({"name": "x", "anything": {"a": ["\ud800"]}}, "string_unicode", ["body", "anything", "a"]),
        ({"name": "x", "when": "soon"}, "datetime_from_date_parsing", ["body", "when"]),
        ({"name": "x", "when": 7}, "datetime_from_date_parsing", ["body", "when"]),
    ],
)
async def test_fields_of_the_wrong_type(
    given_fields: dict[str, Any], kind: str, place: list[str]
) -> None:
    with pytest.raises(Unprocessable) as caught:
        await fields(**given_fields)
    entry = entry_of(caught)
    assert (entry["type"], entry["loc"]) == (kind, place)
    json.dumps(entry)
