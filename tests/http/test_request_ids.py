"""An answer and the log say the same id."""

import logging

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from condastore import correlation
from condastore.http.problems import HANDLERS
from condastore.http.request_ids import RequestIds


async def fine(_: Request) -> Response:
    return PlainTextResponse(correlation.request_id.get())


async def broken(_: Request) -> Response:
    raise ZeroDivisionError("secret")


async def answer(path: str, *, behind_proxy: bool = False, said: str = "") -> httpx.Response:
    app = Starlette(
        routes=[Route("/fine", fine), Route("/broken", broken)],
        middleware=[Middleware(RequestIds, behind_proxy=behind_proxy)],
        exception_handlers=HANDLERS,
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path, headers={"X-Request-Id": said} if said else {})


async def test_each_request_has_one_of_its_own() -> None:
    answers = [await answer("/fine", said="theirs") for _ in range(2)]
    ids = [found.headers["X-Request-Id"] for found in answers]
    assert ids == [found.text for found in answers]
    assert len({*ids, "theirs"}) == 3


async def test_errors_say_it_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    assert (await answer("/nothing")).headers["X-Request-Id"]
    seen: list[str] = []

    def see(_: logging.LogRecord) -> bool:
        seen.append(correlation.request_id.get())
        return True

    caplog.handler.addFilter(see)
    with caplog.at_level(logging.ERROR):
        found = await answer("/broken")
    caplog.handler.removeFilter(see)
    assert found.status_code == 500 and "secret" not in found.text
    assert seen == [found.headers["X-Request-Id"]]
    assert "GET /broken failed" in caplog.text and "ZeroDivisionError: secret" in caplog.text


@pytest.mark.parametrize(
    ("said", "is_taken"), [("1a2b-3c", True), ("x" * 65, False), ("a b", False), ("a=b", False)]
)
async def test_a_proxys_own_is_taken(said: str, *, is_taken: bool) -> None:
    found = await answer("/fine", behind_proxy=True, said=said)
    assert (found.text == said) == is_taken
    assert found.headers["X-Request-Id"] == found.text
