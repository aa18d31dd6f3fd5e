"""`/openapi.json`, and the same for people at `/docs`."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from condastore.http.openapi import document
from condastore.http.pages import page


class ApiDocs:
    """The document of the API, made when somebody asks for it first."""

    def __init__(self, versions: Mapping[str, Iterable[BaseRoute]], url_prefix: str) -> None:
        self._versions = versions
        self._url_prefix = url_prefix

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes below the URL prefix."""
        return [
            Route("/openapi.json", self.openapi),
            Route("/docs", self.show),
            Route("/redoc", self.redirect),
        ]

    async def openapi(self, request: Request) -> Response:
        """The document for programs."""
        etag = f'"{hashlib.sha256(self._text).hexdigest()[:32]}"'
        headers = {"ETag": etag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(self._text, media_type="application/json", headers=headers)

    async def show(self, request: Request) -> Response:
        """The document for people."""
        return page(request, "docs.html", document=self._document, operations=self._by_tag())

    async def redirect(self, request: Request) -> Response:
        """Where conda-store has a second page."""
        return RedirectResponse(str(request.url.replace(query="")).removesuffix("redoc") + "docs")

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document(self._versions, self._url_prefix)

    @cached_property
    def _text(self) -> bytes:
        return json.dumps(self._document).encode()

    def _by_tag(self) -> dict[str, list[tuple[str, str, Any]]]:
        found: dict[str, list[tuple[str, str, Any]]] = {}
        for path, operations in self._document["paths"].items():
            for method, operation in operations.items():
                entry = (path, method.upper(), operation)
                found.setdefault(operation["tags"][0], []).append(entry)
        return found
