"""What an operation of the API takes and gives, declared by the types of its handler.

A handler is `async def handler(call: Call[Query, Body]) -> Shape`. From these three types come the
checks of a request, the JSON of the answer, and the OpenAPI document, which so can't drift.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from condastore.access import Caller
from condastore.database_failures import despite_conflicts
from condastore.http.answers import Answers
from condastore.http.context import caller_of, parts_of, presented_token
from condastore.http.parameters import Body, NoBody, NoQuery, decode_query, json_body, path_id
from condastore.http.problems import json_response
from condastore.service.parts import Parts

Q = TypeVar("Q")
B = TypeVar("B")
T = TypeVar("T")


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """One request, checked: who asks, and what for."""

    request: Request
    parts: Parts
    caller: Caller
    query: Q
    body: B

    @property
    def max_page_size(self) -> int:
        """The most rows that a page has."""
        size: int = self.request.app.state.max_page_size
        return size

    def path(self, name: str) -> str:
        """Returns a name in the path."""
        value: str = self.request.path_params[name]
        return value

    def id(self, name: str) -> int:
        """Returns a number in the path; one that no row can have is still a number."""
        return path_id(self.request, name)


Plain = Call[NoQuery, NoBody]
"""A request that its path says all of."""

ROUTE = "condastore.route"
"""Where the template of a request's path is in its scope."""

Handler = Callable[[Call[Any, Any]], Awaitable[Any]]


def answers(*media_types: str) -> Callable[[Handler], Handler]:
    """Declares what a handler answers with that returns a whole `Response`."""

    def declare(handler: Handler) -> Handler:
        handler.media_types = media_types  # type: ignore[attr-defined]
        return handler

    return declare


def stored(handler: Handler) -> Handler:
    """Declares that a handler answers with stored bytes, and so a HEAD as well as a GET."""
    handler.is_stored = True  # type: ignore[attr-defined]
    return handler


def live(handler: Handler) -> Handler:
    """Declares that an answer is never kept: it depends on more than the database."""
    handler.is_live = True  # type: ignore[attr-defined]
    return handler


@dataclass(frozen=True)
class Operation:
    """A handler with the types that it declares."""

    handler: Handler
    query: type
    body: Any
    returns: Any
    media_types: tuple[str, ...]

    @cached_property
    def is_kept(self) -> bool:
        """Whether the answer depends on nothing but the database and who asks."""
        return self.returns is not Response and not getattr(self.handler, "is_live", False)

    @classmethod
    def of(cls, handler: Handler) -> "Operation":
        """Returns the operation that a handler's annotations declare."""
        hints = get_type_hints(handler)
        query, body = get_args(hints["call"])
        media_types = getattr(handler, "media_types", ("application/json",))
        return cls(handler, query, body, hints["return"], media_types)

    @property
    def summary(self) -> str:
        """The first sentence of the handler's docstring."""
        return inspect.getdoc(self.handler) or ""

    async def __call__(self, request: Request) -> Response:
        """Answers a request."""
        parts = parts_of(request)
        if request.method == "GET" and self.is_kept and parts.database.is_sqlite:
            return await self._kept(request, parts)
        answer = await self._answer(request, parts)
        return answer if isinstance(answer, Response) else json_response(answer)

    async def _kept(self, request: Request, parts: Parts) -> Response:
        """Answers what has not changed without a look at it."""
        answers: Answers = request.app.state.answers
        token = presented_token(request)
        caller = await parts.identities.caller(token)
        generation = parts.database.generation
        found = answers.find(token, request, caller, generation)
        if found is None:
            body = msgspec.json.encode(await self._answer(request, parts))
            found = answers.keep(token, request, caller, generation, body)
        return found.response(request)

    async def _answer(self, request: Request, parts: Parts) -> Any:
        for name in request.path_params:
            if name.endswith("_id"):
                path_id(request, name)
        query: Any = decode_query(self.query, request.query_params)
        body = await self._body(request, parts)
        caller = await caller_of(request)
        call = Call(request, parts, caller, query, body)
        return await despite_conflicts(lambda: self.handler(call))

    async def _body(self, request: Request, parts: Parts) -> Any:
        if self.body is NoBody:
            return NoBody()
        limits = self.body if issubclass(msgspec_class(self.body), Body) else Body
        return await json_body(request, self.body, limits.max_bytes(parts.config))


def msgspec_class(annotation: Any) -> type:
    """Returns the class of an annotation such as `dict[str, Any]`."""
    found: type = getattr(annotation, "__origin__", annotation)
    return found


async def unless_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Returns what `work` returns; it is cancelled when whoever asked has gone."""
    working = asyncio.create_task(work, name="work that somebody waits for")
    leaving = asyncio.create_task(_until_gone(request), name="whether he still waits")
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
    return await working


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _Endpoint:
    """The application behind a resource's path; Starlette would wrap a function more than once."""

    def __init__(self, path: str, operations: Mapping[str, Operation]) -> None:
        self._path = path
        self._operations = operations

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with the operation of the request's method."""
        scope[ROUTE] = scope["root_path"] + self._path
        request = Request(scope, receive, send)
        response = await self._operations[scope["method"]](request)
        await response(scope, receive, send)


class Resource(Route):
    """Everything that can be done at a path, by method; HEAD only for stored bytes."""

    def __init__(self, path: str, **handlers: Handler) -> None:
        if getattr(handlers.get("GET"), "is_stored", False):
            handlers["HEAD"] = handlers["GET"]
        self.operations = {
            method: Operation.of(handler) for method, handler in sorted(handlers.items())
        }

        super().__init__(path, _Endpoint(path, self.operations), methods=list(self.operations))
        # Starlette adds HEAD to GET.
        self.methods = set(self.operations)
