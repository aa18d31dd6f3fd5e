"""What a request says, checked: path, query and body, with FastAPI's answer to what is wrong."""

import json
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request

from condastore.errors import TooLarge, Unprocessable
from condastore.service.pages import PageRequest

E = TypeVar("E", bound=StrEnum)

MAX_PAGE_SIZE = 100
# Quotes and line breaks are two characters in JSON; that of a lockfile becomes a third longer.
JSON_OVERHEAD = 2
SMALL_BODY_BYTES = 64 * 1024
# Enough for any id or offset; more would only be work to parse.
_MAX_DIGITS = 20
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TYPES: dict[type, tuple[str, str]] = {
    str: ("string_type", "Input should be a valid string"),
    bool: ("bool_type", "Input should be a valid boolean"),
    int: ("int_type", "Input should be a valid integer"),
}


def problem(kind: str, loc: list[str | int], message: str, value: Any, **ctx: Any) -> Unprocessable:
    """Returns the error for one wrong value."""
    entry = {"type": kind, "loc": loc, "msg": message, "input": value}
    return Unprocessable([{**entry, "ctx": ctx} if ctx else entry])


def path_id(request: HTTPConnection, name: str) -> int:
    """Returns a number in the path; one that no row can have is still a number."""
    return _integer(request.path_params[name], ["path", name])


def query_integer(query: QueryParams, name: str, default: int, *, minimum: int = 1) -> int:
    """Returns a number in the query."""
    text = query.get(name)
    if text is None:
        return default
    value = _integer(text, ["query", name])
    if value < minimum:
        raise problem(
            "greater_than_equal",
            ["query", name],
            f"Input should be greater than or equal to {minimum}",
            text,
            ge=minimum,
        )
    return value


def query_enum(query: QueryParams, name: str, enum: type[E]) -> E | None:
    """Returns a member of an enum named in the query; None when there is none."""
    text = query.get(name)
    if text is None:
        return None
    if text in enum.__members__:
        return enum[text]
    *first, last = (f"'{member}'" for member in enum.__members__)
    expected = f"{', '.join(first)} or {last}"
    raise problem("enum", ["query", name], f"Input should be {expected}", text, expected=expected)


def query_flag(query: QueryParams, name: str) -> bool:
    """Returns whether a flag is set: `?follow=1`."""
    return query.get(name, "").lower() in ("1", "true", "yes")


def page_request(query: QueryParams) -> PageRequest:
    """Returns which page the query asks for (rest-api §3)."""
    return PageRequest(
        page=query_integer(query, "page", 1),
        size=min(query_integer(query, "size", MAX_PAGE_SIZE), MAX_PAGE_SIZE),
        sort_by=query.getlist("sort_by"),
        descending=query.get("order") == "desc",
    )


async def json_body(request: Request, max_bytes: int = SMALL_BODY_BYTES) -> Mapping[str, Any]:
    """Returns the JSON object in the body; an empty body is an empty object.

    Raises `TooLarge` as soon as more than `max_bytes` have come, and `Unprocessable`.
    """
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes")
    try:
        value = json.loads(data) if data.strip() else {}
    except json.JSONDecodeError as error:
        raise problem(
            "json_invalid", ["body", error.pos], "JSON decode error", {}, error=error.msg
        ) from None
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise problem(
            "json_invalid", ["body", 0], "JSON decode error", {}, error=str(error)
        ) from None
    if not isinstance(value, dict):
        raise problem(
            "model_attributes_type",
            ["body"],
            "Input should be a valid dictionary or object to extract fields from",
            None,
        )
    return value


def body_text(body: Mapping[str, Any], name: str, default: str = "") -> str:
    """Returns a text in a body."""
    value: str | None = _field(body, name, str)
    return default if value is None else value


def body_optional_text(body: Mapping[str, Any], name: str) -> str | None:
    """Returns a text in a body; None when it is absent or null."""
    value: str | None = _field(body, name, str)
    return value


def body_flag(body: Mapping[str, Any], name: str) -> bool:
    """Returns a boolean in a body, false by default."""
    return bool(_field(body, name, bool))


def body_integer(body: Mapping[str, Any], name: str) -> int | None:
    """Returns a number in a body, also one written as text; None when it is absent or null."""
    value = body.get(name)
    if isinstance(value, str):
        return _integer(value, ["body", name])
    number: int | None = _field(body, name, int)
    return number


def _field(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body.get(name)
    if isinstance(value, str) and _SURROGATE.search(value):
        # JSON can spell halves of characters, which nothing can store or send.
        raise problem(
            "string_unicode",
            ["body", name],
            "Input should be a valid string, unable to parse raw data as a unicode string",
            None,
        )
    if value is None or type(value) is kind:
        return value
    error, message = _TYPES[kind]
    raise problem(error, ["body", name], message, value)


def _integer(text: str, loc: list[str | int]) -> int:
    match = _INTEGER.fullmatch(text)
    if match is None:
        raise problem(
            "int_parsing",
            loc,
            "Input should be a valid integer, unable to parse string as an integer",
            text,
        )
    sign, digits = match.groups()
    return int(sign + digits[:_MAX_DIGITS])
