"""Signing in with a password, or the admin token, and signing out (rest-api §11)."""

import getpass
import math
from urllib.parse import urlencode

import msgspec
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from condastore.auth import Authentication, PasswordAuthentication, TokenAuthentication
from condastore.errors import InvalidInput, Unauthorized
from condastore.http import shapes
from condastore.http.attempts import ADDRESS_ATTEMPTS, USER_ATTEMPTS, Attempts
from condastore.http.context import parts_of, presented_token
from condastore.http.cookies import address_of, forget, refuse, sign_in
from condastore.http.form_data import FORM, read_form
from condastore.http.oauth import OAuthLogin
from condastore.http.pages import page
from condastore.http.parameters import SMALL_BODY_BYTES, Body, json_body
from condastore.http.problems import json_response
from condastore.http.redirects import after_login, base, safe_next
from condastore.names import check_name

WRONG = "Invalid authentication credentials"
# conda-store's.
SESSION_S = 14 * 24 * 3600


class Credentials(Body, kw_only=True):
    """What the login page sends."""

    username: str
    password: str = ""


class Redirect(msgspec.Struct):
    redirect_url: str


def routes(authentication: Authentication, session_secret: str) -> list[BaseRoute]:
    """Returns the routes of a login back end; the secret signs the state of a login in progress."""
    session = [Middleware(SessionMiddleware, secret_key=session_secret, max_age=SESSION_S)]
    leaving = Logout(authentication)
    found: list[BaseRoute] = [
        Route("/logout/", leaving.show, methods=["GET"]),
        Route("/logout/", leaving.submit, methods=["POST"]),
    ]
    if isinstance(authentication, PasswordAuthentication):
        login = PasswordLogin(authentication)
        return [
            Route("/login/", login.show, methods=["GET"], middleware=session),
            Route("/login/", login.submit, methods=["POST"], middleware=session),
            *found,
        ]
    flow = OAuthLogin(authentication)
    return [
        Route("/login/", flow.begin, methods=["GET"], middleware=session),
        Route(
            "/oauth_callback/",
            flow.finish,
            methods=["GET"],
            name="oauth_callback",
            middleware=session,
        ),
        *found,
    ]


class PasswordLogin:
    """A page with a form, which also programs post to."""

    def __init__(self, authentication: PasswordAuthentication) -> None:
        self._authentication = authentication
        self._users = Attempts(USER_ATTEMPTS)
        self._addresses = Attempts(ADDRESS_ATTEMPTS)

    async def show(self, request: Request) -> Response:
        """The form; a link with the admin token needs none."""
        if safe_next(request, request.query_params.get("next")) is not None:
            request.session["next"] = request.query_params["next"]
        token = request.query_params.get("token")
        if token is not None and isinstance(self._authentication, TokenAuthentication):
            return await self._by_link(request, self._authentication, token)
        return self._form(request)

    async def submit(self, request: Request) -> Response:
        """Signs in: a form is answered with a redirect, JSON with JSON."""
        is_form = request.headers.get("content-type", "").startswith(FORM)
        credentials = await _form_of(request) if is_form else await _json_of(request)
        try:
            response = await self._signed_in(request, credentials, is_form=is_form)
        except Unauthorized as error:
            if not is_form:
                raise
            return self._form(request, 403, error=str(error), username=credentials.username)
        return response

    async def _signed_in(
        self, request: Request, credentials: Credentials, *, is_form: bool
    ) -> Response:
        user, address = credentials.username, address_of(request)
        wait_s = max(self._users.wait_s(user), self._wait_s(address))
        if wait_s > 0:
            return self._wait(request, math.ceil(wait_s), user, is_form=is_form)
        identity = await self._authentication.authenticate(user, credentials.password)
        if identity is None:
            self._users.failed(user)
            self._failed(address)
            await refuse(request, user)
            raise Unauthorized(WRONG)
        self._users.succeeded(user)
        target = after_login(request)
        answer = json_response(shapes.data(Redirect(target)))
        if is_form:
            answer = RedirectResponse(target, 303)
        return await sign_in(request, answer, self._authentication, identity)

    # On a Unix socket, where nobody has an address, all would have to wait for one.
    def _wait_s(self, address: str | None) -> float:
        return 0.0 if address is None else self._addresses.wait_s(address)

    def _failed(self, address: str | None) -> None:
        if address is not None:
            self._addresses.failed(address)

    def _wait(self, request: Request, wait_s: int, user: str, *, is_form: bool) -> Response:
        message = f"too many failed attempts; try again in {wait_s} s"
        response = json_response({"status": "error", "message": message}, 429)
        if is_form:
            response = self._form(request, 429, error=message, username=user)
        response.headers["Retry-After"] = str(wait_s)
        return response

    async def _by_link(
        self, request: Request, authentication: TokenAuthentication, token: str
    ) -> Response:
        address = address_of(request)
        right = not self._wait_s(address) and authentication.admin_token.is_text(token)
        identity = authentication.identity(_owner()) if right else None
        if identity is None:
            self._failed(address)
            await refuse(request)
            return self._form(request, 403, error="the token in this link is not valid")
        # The redirect takes the token out of the address bar and the history.
        answer = RedirectResponse(after_login(request), 303, {"Cache-Control": "no-store"})
        answer.headers["Referrer-Policy"] = "no-referrer"
        return await sign_in(request, answer, authentication, identity)

    def _form(
        self, request: Request, status: int = 200, error: str = "", username: str = ""
    ) -> Response:
        target = request.query_params.get("next")
        wants_token = isinstance(self._authentication, TokenAuthentication)
        return page(
            request,
            "login.html",
            status,
            action="?" + urlencode({"next": target}) if target else "",
            error=error,
            username=username,
            login_html=self._authentication.login_html,
            password_label="Token" if wants_token else "Password",
            wants_token=wants_token,
        )


class Logout:
    """Signing out, which a mere link can't do to somebody."""

    def __init__(self, authentication: Authentication) -> None:
        self._authentication = authentication

    async def show(self, request: Request) -> Response:
        """Asks whether it is meant."""
        target = request.query_params.get("next")
        return page(
            request, "logout.html", action="?" + urlencode({"next": target}) if target else ""
        )

    async def submit(self, request: Request) -> Response:
        """Ends the session everywhere, and takes its cookie away."""
        token = presented_token(request)
        if token is not None:
            await parts_of(request).identities.revoke(token)
        target = safe_next(request, request.query_params.get("next"))
        response = RedirectResponse(target or base(request), 303)
        return forget(response, self._authentication)


async def _json_of(request: Request) -> Credentials:
    found: Credentials = await json_body(request, Credentials, SMALL_BODY_BYTES)
    return found


async def _form_of(request: Request) -> Credentials:
    values = await read_form(request)
    return Credentials(
        username=values.get("username", [""])[0], password=values.get("password", [""])[0]
    )


def _owner() -> str:
    """Returns the name of whoever runs the daemon, who alone can have read the token."""
    try:
        return check_name(getpass.getuser())
    except (InvalidInput, OSError, KeyError):
        return "default"
