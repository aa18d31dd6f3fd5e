"""What a handler finds in its request: the daemon's parts, and who asks."""

from starlette.requests import HTTPConnection

from condastore.access import Caller
from condastore.auth import AdminToken
from condastore.service.parts import Parts


def parts(connection: HTTPConnection) -> Parts:
    """Returns the daemon's parts."""
    found: Parts = connection.app.state.parts
    return found


def caller(connection: HTTPConnection) -> Caller:
    """Returns who asks."""
    token: AdminToken = connection.app.state.admin_token
    return token.caller(connection.headers.get("authorization"))
