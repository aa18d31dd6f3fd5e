"""Signing in with an account elsewhere (rest-api §11)."""

import hmac
import secrets
from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from condastore import correlation
from condastore.auth import Authentication
from condastore.errors import CondaStoreError, Unauthorized
from condastore.http.cookies import refuse, sign_in
from condastore.http.pages import page
from condastore.http.redirects import after_login, safe_next

if TYPE_CHECKING:
    from condastore.auth.oauth import GenericOAuthAuthentication


_ELSEWHERE = "this sign-in did not begin in this browser, or it began too long ago"


class NotThisLogin(CondaStoreError):
    """Somebody came back from a login that did not begin here."""

    status = 401


class OAuthLogin:
    """The way to the provider and back; what must be the same is kept in the session cookie."""

    def __init__(self, authentication: Authentication) -> None:
        # Importing the class itself would import an HTTP client where nobody needs one.
        self._authentication = cast("GenericOAuthAuthentication", authentication)

    async def begin(self, request: Request) -> Response:
        """Sends the browser to the provider."""
        if safe_next(request, request.query_params.get("next")) is not None:
            request.session["next"] = request.query_params["next"]
        state, verifier, nonce = (secrets.token_urlsafe(32) for _ in range(3))
        request.session.update(oauth_state=state, oauth_verifier=verifier, oauth_nonce=nonce)
        url = self._authentication.authorization(
            self._redirect_uri(request), state, verifier, nonce
        )
        return RedirectResponse(url, 307, {"Cache-Control": "no-store"})

    async def finish(self, request: Request) -> Response:
        """Takes the browser back, or says in a page why somebody is not signed in."""
        try:
            return await self._finish(request)
        except CondaStoreError as error:
            if "text/html" not in request.headers.get("accept", ""):
                raise
            text = _ELSEWHERE if isinstance(error, NotThisLogin) else str(error)
            # Where he wanted to go is in the session still.
            return page(
                request,
                "not_signed_in.html",
                error.status,
                reason=f"{text[:1].upper()}{text[1:]}.",
                again=f"{request.scope['root_path']}/login/",
                request_id=correlation.request_id.get(),
            )

    async def _finish(self, request: Request) -> Response:
        """Signs in. A redirect would lose the cookie, which is of this site only."""
        state, verifier, nonce = (
            str(request.session.pop(f"oauth_{name}", "")) for name in ("state", "verifier", "nonce")
        )
        given = request.query_params.get("state", "")
        if not state or not hmac.compare_digest(given.encode(), state.encode()):
            raise NotThisLogin("OAuth states do not match")
        code = request.query_params.get("code")
        if not code:
            await refuse(request)
            raise Unauthorized("the login provider did not let you in")
        identity = await self._authentication.identify(
            code, self._redirect_uri(request), verifier, nonce
        )
        if identity is None:
            await refuse(request)
            raise Unauthorized("the login provider's user can't have a namespace here")
        answer = page(request, "signed_in.html", next=after_login(request))
        return await sign_in(request, answer, self._authentication, identity)

    def _redirect_uri(self, request: Request) -> str:
        fallback: Any = request.url_for("oauth_callback")
        return self._authentication.redirect_uri(request, str(fallback))
