"""A build's log: as text, to be followed with curl, and as frames on a websocket."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import lru_cache, partial
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket

from condastore.errors import CondaStoreError, Unauthorized
from condastore.http.bytes import Download, respond
from condastore.http.context import caller_of, parts_of
from condastore.http.operations import Call, answers, stored
from condastore.http.parameters import NoBody, at_least, decode_query, path_id
from condastore.http.security import same_site
from condastore.service import logs
from condastore.streams import Ended, Happened, Position, Text

TEXT = "text/plain"
# RFC 6455 §7.4.1
NORMAL = 1000
POLICY = 1008
RESTARTING = 1012


class TextQuery(msgspec.Struct, kw_only=True):
    """From which byte on, and whether to wait for what is still to come."""

    offset: int = 0
    follow: bool = False


class SocketQuery(msgspec.Struct, kw_only=True):
    """From which byte on."""

    offset: int = 0


@stored
@answers("text/plain")
async def text(call: Call[TextQuery, NoBody]) -> Response:
    """A build's log so far; with `?follow=1` also what is still to come."""
    offset = at_least(0, call.query.offset, "offset")
    build_id = call.id("build_id")
    if offset == 0:
        key = await logs.stored_key(call.parts, call.caller, build_id)
        if key is not None:
            answer = await respond(call.request, call.parts.storage, Download(key, TEXT))
            if answer is not None:
                return answer
    if call.query.follow:
        again = partial(caller_of, call.request)
        positions = await logs.follow_log(call.parts, again, build_id, offset)
    else:
        positions = await logs.read_log(call.parts, call.caller, build_id, offset)
    if call.request.method == "HEAD":
        return Response(media_type=TEXT)
    return StreamingResponse(_bytes(positions), media_type="text/plain")


async def websocket(socket: WebSocket) -> None:
    """`WS .../logs/ws?offset=N`: text frames with their byte offsets, events, a status, the end."""
    if not same_site(socket):
        await socket.close(POLICY, "this page is not from here")
        return
    try:
        build_id = path_id(socket, "build_id")
        offset = at_least(0, decode_query(SocketQuery, socket.query_params).offset, "offset")
        again = partial(caller_of, socket)
        positions = await logs.follow_log(parts_of(socket), again, build_id, offset)
    except CondaStoreError as error:
        await socket.accept()
        await _refuse(socket, error)
        return
    await socket.accept()
    with parts_of(socket).metrics.log_websocket():
        await _serve(socket, positions)


async def _serve(socket: WebSocket, positions: AsyncIterator[Position]) -> None:
    sending = asyncio.create_task(_send(socket, positions))
    leaving = asyncio.create_task(_until_gone(socket))
    try:
        await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, leaving):
            task.cancel()
        await asyncio.gather(sending, leaving, return_exceptions=True)


async def _bytes(positions: AsyncIterator[Position]) -> AsyncIterator[bytes]:
    try:
        async for position in positions:
            if isinstance(position, Text):
                yield position.data
    except Unauthorized:
        yield b"\n[condastore: this token may not read on]\n"


async def _send(socket: WebSocket, positions: AsyncIterator[Position]) -> None:
    """Sends frame by frame; each waits until the reader's connection takes it."""
    code = RESTARTING
    try:
        async for position in positions:
            await socket.send_text(_frame(position))
            if isinstance(position, Ended):
                code = NORMAL
    except Unauthorized as error:
        await _refuse(socket, error)
    else:
        await socket.close(code)


async def _refuse(socket: WebSocket, error: CondaStoreError) -> None:
    await socket.send_text(json.dumps({"error": str(error)}))
    await socket.close(POLICY, str(error)[:100])


def _frame(position: Position) -> str:
    match position:
        case Text(offset, data):
            return _text_frame(offset, data)
        case Happened(event):
            return _json(event)
        case Ended(status):
            return _json({"event": "status", "status": status})


# All who read a log at its end are sent the same.
@lru_cache(maxsize=8)
def _text_frame(offset: int, data: bytes) -> str:
    return _json({"offset": offset, "text": data.decode("utf-8", "replace")})


def _json(frame: dict[str, Any]) -> str:
    return msgspec.json.encode(frame).decode()


async def _until_gone(socket: WebSocket) -> None:
    """Reads what the reader sends, which means nothing, until it leaves."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
