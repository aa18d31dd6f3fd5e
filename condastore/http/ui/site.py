"""The addresses of the web interface; the same pages at `/ui/` and at `/admin/`."""

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.types import Receive, Scope, Send

from condastore.http.ui import admin, build, editing, environment, home, people, sharing
from condastore.http.ui.assets import Assets
from condastore.http.ui.views import Pages

NAMESPACE = "/namespace/{namespace}"
ENVIRONMENT = "/environment/{namespace}/{environment}"
SETTING = {"GET": admin.show_settings, "POST": admin.change_setting}


class Site:
    """All pages, below a URL prefix."""

    def __init__(self, url_prefix: str) -> None:
        self._prefix = url_prefix
        self._assets = Assets()
        self._pages = Pages(self._assets, url_prefix)

    def routes(self, *, has_ui: bool) -> list[BaseRoute]:
        """Returns the routes; without `has_ui` something else is served at `/ui/`."""
        router = Router(self._routes(), default=self._missing)
        found: list[BaseRoute] = [
            Route("/", self.enter),
            Route("/favicon.ico", self._assets.icon),
            Mount("/admin", router),
        ]
        return [Mount("/ui", router), *found] if has_ui else found

    async def enter(self, request: Request) -> Response:
        """From the root to the pages."""
        url = URL(scope=request.scope)
        return RedirectResponse(f"{url.scheme}://{url.netloc}{self._prefix}/ui/")

    def _routes(self) -> list[BaseRoute]:
        page = self._pages.route
        return [
            Route("/static/{digest}/{name}", self._assets.serve),
            page("/", GET=home.home),
            page(f"{ENVIRONMENT}/", GET=environment.show, POST=environment.act),
            page(f"{ENVIRONMENT}/diff/", GET=environment.difference),
            page(f"{ENVIRONMENT}/edit/", GET=editing.edit, POST=editing.submit_edit),
            page("/new/", GET=editing.new, POST=editing.submit_new),
            page("/create/", GET=editing.new, POST=editing.submit_new),
            page("/build/{build_id}/", GET=build.show, POST=build.act),
            page("/namespace/", GET=sharing.list_namespaces, POST=sharing.create_namespace),
            page(f"{NAMESPACE}/", GET=sharing.show, POST=sharing.act),
            page("/user/", GET=sharing.user, POST=sharing.act_on_user),
            page("/status/", GET=admin.status),
            page("/people/", GET=people.list_users),
            page("/audit/", GET=people.list_changes),
            page("/setting/", **SETTING),
            page("/setting/{namespace}/", **SETTING),
            page("/setting/{namespace}/{environment}/", **SETTING),
        ]

    async def _missing(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        response = await self._pages.missing(Request(scope, receive))
        await response(scope, receive, send)
