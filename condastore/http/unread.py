"""Requests that are answered before all of them was read."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

READ_BYTES = 64 * 1024
READ_S = 1.0
_OF_BODIES = (b"content-length", b"transfer-encoding")


class UnreadBodies:
    """Reads the rest of a request before its answer begins.

    An HTTP/1.1 server can't use a connection again that has half a request in it, and closes it
    (RFC 9112 §9.3). A client that was not told loses the next request that it sends. So a short
    rest is read, and with a long one the answer says that the connection ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on; one without a body at no cost."""
        if scope["type"] != "http" or not any(name in _OF_BODIES for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        is_read = False

        async def tracked_receive() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = is_read or not message.get("more_body", False)
            return message

        async def send_when_read(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_read:
                ended = await _read(receive)
                if not ended and scope["http_version"].startswith("1"):
                    message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        await self._app(scope, tracked_receive, send_when_read)


async def _read(receive: Receive) -> bool:
    """Reads what is left of a request; returns whether that was all of it."""
    size = 0
    try:
        async with asyncio.timeout(READ_S):
            while size <= READ_BYTES:
                message = await receive()
                if not message.get("more_body", False):
                    return True
                size += len(message["body"])
    except TimeoutError:
        pass
    return False
