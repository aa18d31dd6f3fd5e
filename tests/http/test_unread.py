"""Requests that are answered before all of them was read."""

from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from condastore.http import unread
from condastore.http.unread import UnreadBodies

REQUEST: Scope = {"type": "http", "http_version": "1.1", "headers": [(b"content-length", b"9")]}


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that doesn't look at bodies."""
    await PlainTextResponse("no", 403)(scope, receive, send)


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await PlainTextResponse("thanks")(scope, receive, send)


def part(size: int, *, more: bool) -> Message:
    return {"type": "http.request", "body": b"x" * size, "more_body": more}


async def answer(app: Any, scope: Scope, parts: list[Message]) -> tuple[dict[bytes, bytes], int]:
    """Returns the headers of the answer, and how many parts of the request were left."""
    sent: list[Message] = []

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await UnreadBodies(app)(scope, receive, send)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return dict(sent[0]["headers"]), len(parts)


@pytest.mark.parametrize("app", [refuse, read_all])
async def test_a_short_body_is_read_to_its_end(app: Any) -> None:
    headers, left = await answer(app, REQUEST, [part(5, more=True), part(4, more=False)])
    assert b"connection" not in headers
    assert left == 0


async def test_a_request_without_a_body_is_not_waited_for() -> None:
    headers, left = await answer(refuse, {**REQUEST, "headers": []}, [part(1, more=True)])
    assert b"connection" not in headers
    assert left == 1


async def test_with_a_long_body_the_answer_says_that_the_connection_ends() -> None:
    parts = [part(unread.READ_BYTES, more=True) for _ in range(9)]
    headers, left = await answer(refuse, REQUEST, parts)
    assert headers[b"connection"] == b"close"
    assert left > 5


async def test_http_2_has_no_such_header() -> None:
    parts = [part(unread.READ_BYTES, more=True) for _ in range(9)]
    headers, _ = await answer(refuse, {**REQUEST, "http_version": "2"}, parts)
    assert b"connection" not in headers
