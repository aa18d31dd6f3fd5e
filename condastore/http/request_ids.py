"""Each request has an id, by which its lines in the log are found."""

import re
import secrets

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from condastore import correlation

HEADER = "X-Request-Id"
_RAW_HEADER = HEADER.lower().encode()
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestIds:
    """Gives a request its id, which its answer says too."""

    def __init__(self, app: ASGIApp, *, behind_proxy: bool) -> None:
        self._app = app
        self._behind_proxy = behind_proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "") if self._behind_proxy else ""
        request_id = given if _ID.fullmatch(given) else secrets.token_hex(4)
        correlation.request_id.set(request_id)
        correlation.via.set("api")

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message.setdefault("headers", []).append((_RAW_HEADER, request_id.encode()))
            await send(message)

        await self._app(scope, receive, send_with_id)
