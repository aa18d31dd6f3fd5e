"""`/metrics`, `/celery`, and how long answers take (rest-api §6)."""

import time

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from condastore.http.operations import ROUTE
from condastore.http.problems import json_response
from condastore.metrics import Metrics, Reading
from condastore.service import readings
from condastore.service.parts import Parts
from condastore.service.readings import READINGS_AGE_S, Cached


class Latencies:
    """Measures how long answers take to begin, by the template of their route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on and counts its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get(ROUTE)
                method = scope["method"] if route else "any"
                seconds = time.perf_counter() - began
                self._metrics.answered(method, route or "other", message["status"], seconds)
            await send(message)

        await self._app(scope, receive, counting_send)


class MetricsPages:
    """The two pages for programs that watch."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._readings: Cached[list[Reading]] = Cached(
            lambda: readings.readings(parts), READINGS_AGE_S
        )

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes below the URL prefix."""
        return [Route("/metrics", self.metrics), Route("/celery", self.celery)]

    async def metrics(self, _: Request) -> Response:
        """Everything that is measured, for Prometheus."""
        text = self._parts.metrics.text(await self._readings.get())
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    async def celery(self, _: Request) -> Response:
        """What the pool does, in the words of conda-store's workers."""
        return json_response(await readings.work(self._parts))
