"""Behind a reverse proxy: requests as their clients sent them."""

import re
from contextlib import suppress
from ipaddress import ip_address

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

_HOST = re.compile(r"[A-Za-z0-9._-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?")
_SCHEMES = {"http": {"http": "http", "https": "https"}, "websocket": {"http": "ws", "https": "wss"}}


class ForwardedHeaders:
    """Believes `X-Forwarded-Proto`, `-Host` and `-For`, which a proxy has to set or to remove.

    Of scheme and host the first value counts: that of the proxy next to the client. Of addresses
    it is the last, which the proxy next to us has seen itself.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on with the scheme and the host that its client used."""
        if scope["type"] in _SCHEMES:
            headers = Headers(scope=scope)
            changed = {**scope, "headers": list(scope["headers"])}
            scheme = _SCHEMES[scope["type"]].get(_first(headers, "x-forwarded-proto").lower())
            if scheme is not None:
                changed["scheme"] = scheme
            host = _first(headers, "x-forwarded-host")
            if _HOST.fullmatch(host):
                MutableHeaders(scope=changed)["host"] = host
            # A proxy may add a line of its own below that of the client.
            lines = headers.getlist("x-forwarded-for") or [""]
            address = lines[-1].rpartition(",")[2].strip()
            with suppress(ValueError):
                changed["client"] = (str(ip_address(address)), 0)
            scope = changed
        await self._app(scope, receive, send)


def _first(headers: Headers, name: str) -> str:
    return headers.get(name, "").partition(",")[0].strip()
