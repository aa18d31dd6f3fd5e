"""conda-store's own web interface, served as it is (rest-api §16)."""

from pathlib import Path
from typing import Any

from starlette.datastructures import URL
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from condastore.errors import ConfigurationError
from condastore.http.pages import page

FILES = ("main.js", "main.css")


class WebUI:
    """The page that loads the interface, and its files."""

    def __init__(self, directory: Path, url_prefix: str) -> None:
        missing = [name for name in FILES if not (directory / name).is_file()]
        if missing:
            raise ConfigurationError(
                f"CondaStoreServer.ui_directory={directory} has no {missing[0]}: set it to the "
                "directory `dist` of the npm package @conda-store/conda-store-ui"
            )
        self._directory = directory
        self._prefix = url_prefix

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes below the URL prefix."""
        return [
            Route("/ui", self.show),
            Route("/ui/{path:path}", self.show),
            Mount("/static/conda-store-ui", StaticFiles(directory=self._directory)),
        ]

    async def show(self, request: Request) -> Response:
        """The page, whatever path the interface itself has below `ui`."""
        base = self._base(request)
        settings = {
            "REACT_APP_API_URL": base,
            "REACT_APP_AUTH_METHOD": "cookie",
            "REACT_APP_AUTH_TOKEN": "",
            "REACT_APP_STYLE_TYPE": "green-accent",
            "REACT_APP_SHOW_AUTH_BUTTON": "true",
            "REACT_APP_LOGIN_PAGE_URL": f"{base}/login/?next=",
            "REACT_APP_LOGOUT_PAGE_URL": f"{base}/logout/?next=/",
            "REACT_APP_ROUTER_TYPE": "browser",
            "REACT_APP_URL_BASENAME": f"{self._prefix}/ui",
        }
        values: dict[str, Any] = {"settings": settings, "files": f"{self._prefix}/static"}
        status = 404 if request.url.path.endswith("not-found") else 200
        # Its components write their styles into the page.
        return page(request, "web_ui.html", status, allow=_ALLOWED, **values)

    def _base(self, request: Request) -> str:
        url = URL(scope=request.scope)
        return f"{url.scheme}://{url.netloc}{self._prefix}"


_ALLOWED = {
    "style-src": "'self' 'unsafe-inline'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "font-src": "'self' data:",
}
