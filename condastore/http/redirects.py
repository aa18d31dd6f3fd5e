"""Where somebody may be sent after signing in or out: nowhere that a stranger could choose."""

import re
from urllib.parse import urlsplit

from starlette.requests import Request

from condastore.http.security import hostname

_UNSAFE = re.compile(r"[\x00-\x20\x7f\\]")
MAX_LENGTH = 4096


def safe_next(request: Request, target: str | None) -> str | None:
    """Returns a target if it is on this host, on whatever port; else None.

    Browsers take `//host` and `/\\host` for another host, and drop control characters.
    """
    if not target or len(target) > MAX_LENGTH or _UNSAFE.search(target):
        return None
    if target.startswith("/"):
        return None if target.startswith("//") else target
    try:
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or "@" in parts.netloc:
        return None
    ours = hostname(request.headers.get("host", ""))
    return target if host and host.lower() == ours else None


def after_login(request: Request) -> str:
    """Returns where to go on: as the query says, or the page that asked to sign in, or the base."""
    stored = request.session.pop("next", None)
    asked = safe_next(request, request.query_params.get("next"))
    return asked or safe_next(request, stored) or base(request)


def base(request: Request) -> str:
    """Returns the address of the first page; before it a proxy may have other pages of its own."""
    root: str = request.scope["root_path"]
    return str(request.base_url.replace(path=f"{root}/"))
