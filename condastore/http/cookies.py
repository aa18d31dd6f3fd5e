"""The cookie that keeps somebody signed in (rest-api §1)."""

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from condastore.auth import Authentication, Identity
from condastore.http.context import parts_of


async def sign_in(
    request: Request, response: Response, authentication: Authentication, identity: Identity
) -> Response:
    """Gives an answer the cookie with a new token."""
    token, expires = await parts_of(request).identities.log_in(
        identity, authentication.login_lifetime, address_of(request)
    )
    response.set_cookie(
        authentication.cookie_name,
        token,
        max_age=int((expires - datetime.now(UTC)).total_seconds()),
        domain=authentication.cookie_domain,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


async def refuse(request: Request, username: str = "") -> None:
    """Has it noted that somebody could not sign in."""
    await parts_of(request).identities.refuse(username, address_of(request))


def address_of(request: Request) -> str | None:
    """Returns where a request comes from; None on a Unix socket."""
    return (request.client.host or None) if request.client else None


def forget(response: Response, authentication: Authentication) -> Response:
    """Gives an answer that takes the cookie away."""
    response.delete_cookie(
        authentication.cookie_name,
        domain=authentication.cookie_domain,
        httponly=True,
        samesite="strict",
    )
    return response
