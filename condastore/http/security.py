"""What keeps other web sites, and other names of this machine, out."""

import json
import os
from collections.abc import Collection
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from condastore.origin import ORIGIN, Origin

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
SAFE_METHODS = ("GET", "HEAD", "OPTIONS", "TRACE")
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"SAMEORIGIN"),
    (b"referrer-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'self'; sandbox"),
    # Answers depend on who asks.
    (b"cache-control", b"private, no-cache"),
    # What a page may read of them depends on the page; see `Cors`.
    (b"vary", b"Origin"),
]


@lru_cache(maxsize=256)
def hostname(netloc: str) -> str:
    """Returns the name in a Host header or an origin, without port and brackets."""
    try:
        return (urlsplit(f"//{netloc}").hostname or "").lower()
    except ValueError:
        return ""


def same_site(connection: HTTPConnection) -> bool:
    """Whether a request comes from a page of this host, on whatever port, or from no page.

    Browsers say from where in `Sec-Fetch-Site` (Fetch Metadata) or else in `Origin` (RFC 6454).
    The extension for JupyterLab lives on another port; that is "same-site" as well as another
    host of the same domain, which is somebody else.
    """
    site = connection.headers.get("sec-fetch-site")
    if site in ("same-origin", "none"):
        return True
    origin = connection.headers.get("origin")
    if origin is None:
        return site is None
    return hostname(urlsplit(origin).netloc) == hostname(connection.headers.get("host", ""))


class HostGuard:
    """Refuses requests for other names than ours.

    A page on another site can make a browser call loopback under that site's own name.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] | None) -> None:
        self._app = app
        self._allowed = None if allowed_hosts is None else {name.lower() for name in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on if it is for an allowed name."""
        if (
            self._allowed is None
            or scope["type"] not in ("http", "websocket")
            or hostname(Headers(scope=scope).get("host", "")) in self._allowed
        ):
            await self._app(scope, receive, send)
        else:
            text = "Invalid host header: add the name to c.CondaStoreServer.allowed_hosts"
            await _refuse(PlainTextResponse(text, 400), scope, receive, send)


class SecurityHeaders:
    """Adds the headers that keep browsers from guessing, framing and caching, and a number.

    By this number the daemon's log and the audit log know the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Adds what the answer has not set itself."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = os.urandom(4).hex()
        ORIGIN.set(Origin("api", request_id))

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = message["headers"]
                present = {name for name, _ in headers}
                added = [one for one in HEADERS if one[0] not in present]
                number = (b"x-request-id", request_id.encode())
                message["headers"] = [*headers, *added, number]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class Cors(CORSMiddleware):
    """Lets pages of other origins read answers, as far as the configuration has it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes on what no page has sent, which is nearly everything, without a look."""
        if scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"]):
            await super().__call__(scope, receive, send)
        else:
            await self.app(scope, receive, send)


class CrossSiteGuard:
    """Refuses changes that another site's page asks for with the cookie of a user's browser."""

    def __init__(self, app: ASGIApp, cookie_name: str) -> None:
        self._app = app
        self._cookie_name = cookie_name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, unless it would change something and comes from another site.

        Signing in is guarded without a cookie too: nobody is to work as somebody else unknowingly.
        """
        if scope["type"] == "http" and scope["method"] not in SAFE_METHODS:
            connection = HTTPConnection(scope)
            guarded = self._cookie_name in connection.cookies or "/login" in scope["path"]
            if guarded and not same_site(connection):
                message = (
                    "a page of another site asked for this with your cookie; send a token in the "
                    "Authorization header instead"
                )
                body = json.dumps({"status": "error", "message": message})
                response = Response(body, 403, media_type="application/json")
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _refuse(response: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
    else:
        await response(scope, receive, send)
