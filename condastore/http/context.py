"""What a handler finds in its request: the daemon's parts, and who asks."""

import base64

from starlette.requests import HTTPConnection

from condastore.access import Caller
from condastore.service.parts import Parts


def parts_of(connection: HTTPConnection) -> Parts:
    """Returns the daemon's parts."""
    found: Parts = connection.app.state.parts
    return found


async def caller_of(connection: HTTPConnection) -> Caller:
    """Returns who asks."""
    return await parts_of(connection).identities.caller(presented_token(connection))


def presented_token(connection: HTTPConnection) -> str | None:
    """Returns the token of a request (rest-api §11): from the cookie, or else the header.

    The header is `Bearer TOKEN`, or `Basic` with the token as password (RFC 6750, RFC 7617).
    """
    cookie = connection.cookies.get(connection.app.state.authentication.cookie_name)
    if cookie:
        return cookie
    return header_credentials(connection)[1]


def header_credentials(connection: HTTPConnection) -> tuple[str, str | None]:
    """Returns the scheme of the header, in lower case, and the token in it, if it can be read."""
    scheme, _, value = connection.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer":
            return "bearer", value.strip()
        case "basic":
            return "basic", _password(value)
    return scheme.lower(), None


def _password(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2].strip()
    except ValueError:
        return None
