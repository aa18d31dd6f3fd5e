"""A build's log: as text, to be followed with curl, and as frames on a websocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from condastore.errors import CondaStoreError
from condastore.http.artifacts import NO_SNIFFING
from condastore.http.context import caller, parts
from condastore.http.parameters import path_id, query_flag, query_integer
from condastore.service import logs
from condastore.streams import Ended, Happened, Position, Text

# RFC 6455 §7.4.1
NORMAL = 1000
POLICY = 1008
RESTARTING = 1012


async def text(request: Request) -> Response:
    """`GET .../logs/`: the log so far; with `?follow=1` also what is still to come."""
    build_id = path_id(request, "build_id")
    offset = query_integer(request.query_params, "offset", 0, minimum=0)
    follow = query_flag(request.query_params, "follow")
    positions = await logs.read_log(
        parts(request), caller(request), build_id, offset, follow=follow
    )
    return StreamingResponse(_bytes(positions), media_type="text/plain", headers=NO_SNIFFING)


async def websocket(socket: WebSocket) -> None:
    """`WS .../logs/ws?offset=N`: text frames with their byte offsets, events, a status, the end."""
    if not _same_origin(socket):
        await socket.close(POLICY, "this page is not from here")
        return
    try:
        build_id = path_id(socket, "build_id")
        offset = query_integer(socket.query_params, "offset", 0, minimum=0)
        positions = await logs.read_log(
            parts(socket), caller(socket), build_id, offset, follow=True
        )
    except CondaStoreError as error:
        await socket.accept()
        await socket.send_text(json.dumps({"error": str(error)}))
        await socket.close(POLICY, str(error)[:100])
        return
    await socket.accept()
    sending = asyncio.create_task(_send(socket, positions))
    leaving = asyncio.create_task(_until_gone(socket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _bytes(positions: AsyncIterator[Position]) -> AsyncIterator[bytes]:
    async for position in positions:
        if isinstance(position, Text):
            yield position.data


async def _send(socket: WebSocket, positions: AsyncIterator[Position]) -> None:
    """Sends frame by frame; each waits until the reader's connection takes it."""
    code = RESTARTING
    async for position in positions:
        await socket.send_text(msgspec.json.encode(_frame(position)).decode())
        if isinstance(position, Ended):
            code = NORMAL
    await socket.close(code)


def _frame(position: Position) -> dict[str, object]:
    match position:
        case Text(offset, data):
            return {"offset": offset, "text": data.decode("utf-8", "replace")}
        case Happened(event):
            return event
        case Ended(status):
            return {"event": "status", "status": status}


async def _until_gone(socket: WebSocket) -> None:
    """Reads what the reader sends, which means nothing, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _same_origin(socket: WebSocket) -> bool:
    """Browsers let any page open a websocket to loopback, but say which page it was."""
    origin = socket.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == socket.headers.get("host")
