"""What a request says, checked against the struct that declares it (rest-api §2).

What is wrong is answered as FastAPI does: one entry for each wrong value, with its place.
"""

import json
import re
from collections.abc import Callable, Hashable, Mapping
from datetime import datetime
from functools import cache
from typing import Any, Protocol, TypeVar, cast

import msgspec
from msgspec import inspect
from starlette.datastructures import QueryParams
from starlette.requests import HTTPConnection, Request

from condastore.configuration import CondaStore
from condastore.errors import TooLarge, Unprocessable
from condastore.service.pages import PageRequest

T = TypeVar("T")

SMALL_BODY_BYTES = 64 * 1024
# Enough for any id or offset; more would only be work to parse.
_MAX_DIGITS = 20
_INTEGER = re.compile(r"([+-]?)0*([0-9]+)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")
Place = list[str | int]


class Body(msgspec.Struct, kw_only=True):
    """A JSON object that a request carries; unknown fields are ignored."""

    @classmethod
    def max_bytes(cls, config: CondaStore) -> int:
        """Returns how long the body may be."""
        del config
        return SMALL_BODY_BYTES


class NoBody(Body):
    """The request's body is not looked at."""


class NoQuery(msgspec.Struct, kw_only=True):
    """Nothing in the query means anything."""


class PageQuery(msgspec.Struct, kw_only=True):
    """Which page of a list, how long, and in which order (rest-api §3)."""

    page: int = 1
    size: int | None = None
    sort_by: list[str] = []
    order: str = ""


class PageFields(Protocol):
    """The same fields, wherever they are."""

    page: int
    size: int | None
    sort_by: list[str]
    order: str


def page_request(query: PageFields, max_size: int) -> PageRequest:
    """Returns the page that a query asks for. Raises `Unprocessable`."""
    page = at_least(1, query.page, "page")
    size = max_size if query.size is None else at_least(1, query.size, "size")
    return PageRequest(page, min(size, max_size), query.sort_by, query.order == "desc")


def at_least(minimum: int, value: int, name: str) -> int:
    """Returns a number in the query. Raises `Unprocessable` if it is too small."""
    if value < minimum:
        raise problem(
            "greater_than_equal",
            ["query", name],
            f"Input should be greater than or equal to {minimum}",
            str(value),
            ge=minimum,
        )
    return value


def problem(kind: str, loc: Place, message: str, value: Any, **ctx: Any) -> Unprocessable:
    """Returns the error for one wrong value."""
    entry = {"type": kind, "loc": loc, "msg": message, "input": value}
    return Unprocessable([{**entry, "ctx": ctx} if ctx else entry])


def path_id(connection: HTTPConnection, name: str) -> int:
    """Returns a number in the path; one that no row can have is still a number."""
    return _integer(connection.path_params[name], ["path", name])


def decode_query(kind: type[T], query: QueryParams) -> T:
    """Returns what a query says. Raises `Unprocessable`."""
    values: dict[str, Any] = {}
    for field in _fields(cast(Hashable, kind)):
        if field.encode_name in query:
            several = isinstance(_without_none(field.type), inspect.ListType)
            name = field.encode_name
            values[name] = query.getlist(name) if several else query[name]
    return _struct(kind, values, ["query"])


async def limited_body(request: Request, max_bytes: int) -> bytes:
    """Returns a request's body. Raises `TooLarge` as soon as more than `max_bytes` have come."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise TooLarge(f"the body is larger than {max_bytes} bytes")
    return bytes(data)


async def json_body(request: Request, kind: Any, max_bytes: int) -> Any:
    """Returns what the JSON object in the body says; an empty body is an empty object.

    Raises `TooLarge` and `Unprocessable`.
    """
    value = _parsed(await limited_body(request, max_bytes))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if not isinstance(value, dict):
            raise problem(
                "model_attributes_type",
                ["body"],
                "Input should be a valid dictionary or object to extract fields from",
                None,
            )
        return _struct(kind, value, ["body"])
    return _value(inspect.type_info(kind), value, ["body"])


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_no_constant) if data.strip() else {}
    except json.JSONDecodeError as error:
        place, reason = error.pos, error.msg
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        place, reason = 0, str(error)
    raise problem("json_invalid", ["body", place], "JSON decode error", {}, error=reason)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


@cache
def _fields(kind: Hashable) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info.fields


def _struct(kind: type[T], values: Mapping[str, Any], place: Place) -> T:
    """Collects everything that is wrong before it complains."""
    found: dict[str, Any] = {}
    wrong: list[dict[str, Any]] = []
    for field in _fields(cast(Hashable, kind)):
        name = field.encode_name
        try:
            if name in values:
                found[field.name] = _value(field.type, values[name], [*place, name])
            elif field.required:
                raise problem("missing", [*place, name], "Field required", dict(values))
        except Unprocessable as error:
            wrong += error.detail
    if wrong:
        raise Unprocessable(wrong)
    return kind(**found)


def _value(info: inspect.Type, value: Any, place: Place) -> Any:
    if isinstance(info, inspect.UnionType):
        return None if value is None else _value(_without_none(info), value, place)
    reader = _READERS.get(type(info))
    if reader is None:
        _check_text_in(value, place)
        return value
    return reader(info, value, place)


def _without_none(info: inspect.Type) -> inspect.Type:
    if isinstance(info, inspect.UnionType):
        return next(kind for kind in info.types if not isinstance(kind, inspect.NoneType))
    return info


def _list(info: inspect.ListType, value: Any, place: Place) -> list[Any]:
    if not isinstance(value, list):
        raise problem("list_type", place, "Input should be a valid list", value)
    return [_value(info.item_type, item, [*place, number]) for number, item in enumerate(value)]


def _dict(info: inspect.DictType, value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise problem("dict_type", place, "Input should be a valid dictionary", value)
    return {
        _text(key, place): _value(info.value_type, item, [*place, key])
        for key, item in value.items()
    }


def _text(value: Any, place: Place) -> str:
    if not isinstance(value, str):
        raise problem("string_type", place, "Input should be a valid string", value)
    if _SURROGATE.search(value):
        # JSON can spell halves of characters, which nothing can store or send.
        raise problem(
            "string_unicode",
            place,
            "Input should be a valid string, unable to parse raw data as a unicode string",
            None,
        )
    return value


def _check_text_in(value: Any, place: Place) -> None:
    """The same for text anywhere in what may be any JSON."""
    if isinstance(value, str):
        _text(value, place)
    elif isinstance(value, dict):
        for key, item in value.items():
            _text(key, place)
            _check_text_in(item, place)
    elif isinstance(value, list):
        for item in value:
            _check_text_in(item, place)


def _boolean(value: Any, place: Place) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if not isinstance(value, str | int) or text not in _TRUE + _FALSE:
        raise problem("bool_type", place, "Input should be a valid boolean", value)
    return text in _TRUE


def _time(value: Any, place: Place) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise problem(
            "datetime_from_date_parsing", place, "Input should be a valid datetime", value
        ) from None


def _member(info: inspect.EnumType, value: Any, place: Place) -> Any:
    members = [str(member.value) for member in info.cls]
    if value in members:
        return info.cls(value)
    *first, last = (f"'{member}'" for member in members)
    expected = f"{', '.join(first)} or {last}"
    raise problem("enum", place, f"Input should be {expected}", value, expected=expected)


def _integer(value: Any, place: Place) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, str):
        raise problem("int_type", place, "Input should be a valid integer", value)
    match = _INTEGER.fullmatch(value)
    if match is None:
        raise problem(
            "int_parsing",
            place,
            "Input should be a valid integer, unable to parse string as an integer",
            value,
        )
    sign, digits = match.groups()
    return int(sign + digits[:_MAX_DIGITS])


_READERS: dict[type, Callable[[Any, Any, Place], Any]] = {
    inspect.StrType: lambda _, value, place: _text(value, place),
    inspect.IntType: lambda _, value, place: _integer(value, place),
    inspect.BoolType: lambda _, value, place: _boolean(value, place),
    inspect.DateTimeType: lambda _, value, place: _time(value, place),
    inspect.EnumType: _member,
    inspect.ListType: _list,
    inspect.DictType: _dict,
}
