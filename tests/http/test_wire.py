"""What every request is held to before it is routed."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from condastore.errors import TooSlow
from condastore.http.wire import Wire
from tests.patience import PATIENCE_S


async def body_of(scope: Scope, receive: Receive, send: Send) -> None:
    del send
    scope["found"].append(await receive())
    while scope["found"][-1].get("more_body"):
        scope["found"].append(await receive())
    scope["found"].append(await receive())


async def asked(pauses_s: list[float], *, method: str = "POST") -> list[Any]:
    """Sends a body in as many pieces, and leaves after the last one."""
    pending = list(pauses_s)

    async def receive() -> Message:
        if not pending:
            await asyncio.sleep(0.2)
            return {"type": "http.disconnect"}
        await asyncio.sleep(pending.pop(0))
        return {"type": "http.request", "body": b"x", "more_body": bool(pending)}

    async def send(_: Message) -> None:
        pass

    found: list[Any] = []
    scope = {"type": "http", "method": method, "path": "/x", "query_string": b"", "found": found}
    await Wire(body_of, read_timeout=1)(scope, receive, send)
    return found


async def test_a_body_may_take_long_as_long_as_it_comes() -> None:
    found = await asked([0.1] * 12)
    assert [message["type"] for message in found] == ["http.request"] * 12 + ["http.disconnect"]


async def test_a_body_that_stops_coming_is_refused() -> None:
    with pytest.raises(TooSlow, match="within 1 s"):
        await asked([0.0, 2 * PATIENCE_S])
    assert TooSlow.status == 408
