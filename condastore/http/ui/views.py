"""One request for a page: who asks, what the page needs to know of it, and the page's answer."""

import asyncio
import gzip
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote, unquote, urlencode

from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from condastore import correlation
from condastore.access import Caller
from condastore.errors import (
    CondaStoreError,
    InvalidInput,
    NotFound,
    TooLarge,
    Unauthorized,
    Unprocessable,
)
from condastore.http.context import caller_of, parts_of
from condastore.http.form_data import read_form
from condastore.http.operations import ROUTE
from condastore.http.parameters import SMALL_BODY_BYTES, path_id
from condastore.http.ui.assets import Assets, accepts_gzip
from condastore.http.ui.rendering import load
from condastore.service.parts import Parts

logger = logging.getLogger(__name__)

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
MAX_PAGE = 1_000_000
_PACKED_BYTES = 1000
# Level 4 packs HTML nearly as well as 9 in a third of the time.
_LEVEL = 4
_NOTICE = "condastore-notice"
_NOTICE_S = 60
_FORM = "condastore.form"


@dataclass(frozen=True)
class View:
    """One request for a page."""

    request: Request
    parts: Parts
    caller: Caller
    assets: Assets
    url_prefix: str
    request_id: str = field(default_factory=correlation.request_id.get)

    @property
    def base(self) -> str:
        """The path that all pages begin with: `/ui`, `/admin`, behind the URL prefix."""
        root: str = self.request.scope["root_path"]
        return root

    @property
    def query(self) -> QueryParams:
        """What the address says behind the question mark."""
        return self.request.query_params

    @property
    def page_number(self) -> int:
        """The page of a list that is asked for."""
        text = self.query.get("page", "1")
        return min(max(int(text), 1), MAX_PAGE) if text.isascii() and text.isdigit() else 1

    def name(self, key: str) -> str:
        """Returns a name in the path."""
        value: str = self.request.path_params[key]
        return value

    def id(self, key: str = "build_id") -> int:
        """Returns a number in the path."""
        return path_id(self.request, key)

    def url(self, *names: str | int, **query: str | int | None) -> str:
        """Returns the address of a page; what is None in the query is left out."""
        path = "".join(f"{quote(str(name), safe='')}/" for name in names)
        given = {key: value for key, value in query.items() if value is not None}
        return f"{self.base}/{path}" + (f"?{urlencode(given)}" if given else "")

    def here(self, **changes: str | int | None) -> str:
        """Returns the address of this page with another query."""
        given: dict[str, str | int] = dict(self.query)
        for key, value in changes.items():
            given.pop(key, None)
            if value is not None and value != "":
                given[key] = value
        path = quote(self.request.scope["path"], safe="/~@$&+=")
        return path + (f"?{urlencode(given)}" if given else "")

    def allows(self, permission: str, arn: str) -> bool:
        """Whether the caller has a permission on an arn."""
        return self.caller.allows(permission, arn)

    async def form(self, max_bytes: int = SMALL_BODY_BYTES) -> dict[str, str]:
        """Returns the fields of the form that was sent, which is read once."""
        scope = self.request.scope
        if _FORM not in scope:
            fields = await read_form(self.request, max_bytes)
            scope[_FORM] = {name: values[-1] for name, values in fields.items()}
        found: dict[str, str] = scope[_FORM]
        return found

    def redirect(self, target: str, notice: str = "") -> Response:
        """Sends the browser on, after a change; the next page shows the notice."""
        response = RedirectResponse(target, 303)
        if notice:
            response.set_cookie(
                _NOTICE,
                quote(notice),
                max_age=_NOTICE_S,
                path=self.base or "/",
                httponly=True,
                samesite="strict",
            )
        return response

    async def page(
        self, template: str, http_status: int = 200, *, keep: bool = True, **values: Any
    ) -> Response:
        """Returns a page. `keep` false keeps it out of every cache, and of the history."""
        loaded = await load(template)
        shown = {
            **self.request.app.state.template_vars,
            **values,
            "view": self,
            "caller": self.caller,
            "notice": unquote(self.request.cookies.get(_NOTICE, "")),
            "assets": f"{self.base}/static/{self.assets.digest}",
        }
        # A page of thousands of packages takes longer than the event loop may be held.
        packs = accepts_gzip(self.request)
        made = await asyncio.to_thread(_made, loaded, shown, packs=packs)
        return self._answer(made, http_status, keep=keep)

    def _answer(self, made: "_Made", status: int, *, keep: bool) -> Response:
        headers = {
            "Content-Security-Policy": POLICY,
            "Vary": "Accept-Encoding, Cookie",
        }
        if _NOTICE in self.request.cookies:
            # It is shown once.
            headers["Set-Cookie"] = f"{_NOTICE}=; Max-Age=0; Path={self.base or '/'}"
            keep = False
        if not keep:
            headers["Cache-Control"] = "no-store"
        elif status == 200 and self.request.method == "GET":
            headers["ETag"] = made.etag
            if self.request.headers.get("if-none-match") == made.etag:
                return Response(status_code=304, headers=headers)
        if made.is_packed:
            headers["Content-Encoding"] = "gzip"
        return Response(made.data, status, headers, "text/html")


class _Made(NamedTuple):
    """A page as it goes out."""

    data: bytes
    etag: str
    is_packed: bool


def _made(template: Any, values: Mapping[str, Any], *, packs: bool) -> _Made:
    data = template.render(values).encode("utf-8", "replace")
    etag = f'W/"{hashlib.sha256(data).hexdigest()[:32]}"'
    packs = packs and len(data) > _PACKED_BYTES
    return _Made(gzip.compress(data, _LEVEL, mtime=0) if packs else data, etag, packs)


Handler = Callable[[View], Awaitable[Response]]
Action = Callable[[View, dict[str, str]], Awaitable[Response]]
"""What a form asks for, with its fields."""


async def act(view: View, actions: Mapping[str, Action]) -> Response:
    """Does what the form's field `action` names. Raises `InvalidInput` for what is not there."""
    form = await view.form()
    action = actions.get(form.get("action", ""))
    if action is None:
        raise InvalidInput("this form asks for something that this page can't do")
    return await action(view, form)


class Pages:
    """Makes routes of handlers: what they raise becomes a page that says it in a sentence."""

    def __init__(self, assets: Assets, url_prefix: str) -> None:
        self._assets = assets
        self._url_prefix = url_prefix

    def route(self, path: str, **handlers: Handler) -> Route:
        """Returns the route of a page: its handlers by method."""

        async def handle(request: Request) -> Response:
            request.scope[ROUTE] = request.scope["root_path"] + path
            method = "GET" if request.method == "HEAD" else request.method
            return await self._answer(request, handlers[method])

        return Route(path, handle, methods=list(handlers))

    async def missing(self, request: Request) -> Response:
        """Answers for an address without a page."""

        async def no_page(_: View) -> Response:
            raise NotFound("there is no page at this address")

        return await self._answer(request, no_page)

    async def _answer(self, request: Request, handler: Handler) -> Response:
        correlation.via.set("ui")
        view = View(
            request, parts_of(request), await caller_of(request), self._assets, self._url_prefix
        )
        try:
            return await handler(view)
        except CondaStoreError as error:
            return await refusal(view, error)
        except HTTPException:
            raise
        except Exception as error:
            logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
            return await problem(view, 500, "Something went wrong here", _BUG)


_BUG = (
    "This is a fault of the program, not of yours. The daemon's log has more under the number of "
    "this request."
)
_TITLES: Mapping[type[CondaStoreError], str] = {
    NotFound: "This is not here",
    TooLarge: "This is too large",
    Unprocessable: "This address can't be read",
}


async def refusal(view: View, error: CondaStoreError) -> Response:
    """Returns the page for a failure that we know."""
    logger.info("%d %s", error.status, view.request.url.path)
    if isinstance(error, Unauthorized):
        if not view.caller.authenticated:
            text = "Who has not signed in can't see or do this."
            return await problem(view, 401, "Please sign in", text)
        text = (
            "You are signed in, but you have no right to see or do this. Whoever administers the "
            "namespace can give it to you."
        )
        return await problem(view, 403, "You may not do this", text)
    text = f"{str(error)[:1].upper()}{str(error)[1:].rstrip('.')}."
    if isinstance(error, NotFound):
        return await problem(view, 404, _TITLES[NotFound], f"{text} It may have been deleted.")
    title = next((text for kind, text in _TITLES.items() if isinstance(error, kind)), "")
    return await problem(view, error.status, title or "This was not done", text)


async def problem(view: View, status: int, title: str, text: str) -> Response:
    """Returns a page that says what is wrong."""
    response = await view.page(
        "problem.html", status, keep=False, title=title, text=text, status=status
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
