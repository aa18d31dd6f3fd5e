"""What the wire contract asks of every request before it is routed."""

import asyncio

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from condastore.errors import TooSlow

# Hypercorn's own limits are a hundred times those of a browser.
MAX_QUERY_BYTES = 64 * 1024
TOO_LONG = {"detail": f"The query is longer than {MAX_QUERY_BYTES} bytes"}


class Wire:
    """Paths and queries as conda-store's clients write them (rest-api §1, §15)."""

    def __init__(self, app: ASGIApp, read_timeout: float) -> None:
        self._app = app
        self._read_timeout = read_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, with what its client meant."""
        if scope["type"] == "http":
            if b"%2f" in scope.get("raw_path", b"").lower():
                # Decoded, it would be a path of other segments.
                await JSONResponse({"detail": "Not Found"}, 404)(scope, receive, send)
                return
            query: bytes = scope["query_string"]
            if len(query) > MAX_QUERY_BYTES:
                await JSONResponse(TOO_LONG, 414)(scope, receive, send)
                return
            if query.endswith(b"/") and "/api/" in scope["path"]:
                # The conda-store command adds a slash to the whole URL, also behind a query.
                scope = {**scope, "query_string": query[:-1]}
            if scope["method"] != "GET":
                receive = self._in_time(receive)
        await self._app(scope, receive, send)

    def _in_time(self, receive: Receive) -> Receive:
        """Returns what receives a request's body, and refuses one that pauses for too long."""
        is_whole = False

        async def receive_in_time() -> Message:
            nonlocal is_whole
            if is_whole:
                return await receive()
            try:
                async with asyncio.timeout(self._read_timeout):
                    message = await receive()
            except TimeoutError:
                raise TooSlow(
                    f"the rest of the body did not come within {self._read_timeout:g} s"
                ) from None
            is_whole = not message.get("more_body")
            return message

        return receive_in_time
