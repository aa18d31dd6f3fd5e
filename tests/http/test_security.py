"""Other sites, and other names of this machine, stay out."""

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from condastore.http.security import LOOPBACK_HOSTS, CrossSiteGuard, HostGuard, SecurityHeaders


async def answer(_: Request) -> Response:
    return PlainTextResponse("done")


async def own_headers(_: Request) -> Response:
    return PlainTextResponse("done", headers={"Cache-Control": "no-store"})


def client(*middleware: Middleware, host: str = "localhost:8080") -> httpx.AsyncClient:
    routes = [
        Route("/x", answer, methods=["GET", "POST", "PUT", "DELETE"]),
        Route("/login/", answer, methods=["POST"]),
        Route("/own", own_headers),
    ]
    app: Any = Starlette(routes=routes, middleware=middleware)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:8080", 200),
        ("[::1]:8080", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("127.0.0.1.evil.example:8080", 400),
        ("", 400),
        ("[::1", 400),
        ("a@localhost", 200),
    ],
)
async def test_only_our_names_are_answered(host: str, status: int) -> None:
    async with client(Middleware(HostGuard, allowed_hosts=LOOPBACK_HOSTS)) as http:
        response = await http.get("/x", headers={"Host": host})
    assert response.status_code == status
    if status == 400:
        assert "allowed_hosts" in response.text


async def test_without_a_list_every_name_is_ours() -> None:
    async with client(Middleware(HostGuard, allowed_hosts=None)) as http:
        assert (await http.get("/x", headers={"Host": "store.example"})).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:8888"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://other.localhost"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"}, 403),
        ({"Origin": "http://localhost:8080"}, 200),
        ({"Origin": "http://localhost:8888"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "http://evil.example", "Authorization": "Bearer x"}, 403),
    ],
)
async def test_a_cookie_changes_nothing_for_other_sites(
    method: str, headers: dict[str, str], status: int
) -> None:
    headers = {**headers, "Cookie": "conda-store-auth=token"}
    async with client(Middleware(CrossSiteGuard, cookie_name="conda-store-auth")) as http:
        response = await http.request(method, "/x", headers=headers)
        assert response.status_code == status
        assert (await http.get("/x", headers=headers)).status_code == 200


async def test_a_token_in_a_header_may_come_from_anywhere() -> None:
    headers = {"Origin": "http://evil.example", "Authorization": "Bearer x"}
    async with client(Middleware(CrossSiteGuard, cookie_name="conda-store-auth")) as http:
        assert (await http.post("/x", headers=headers)).status_code == 200


async def test_nobody_is_signed_in_by_another_site() -> None:
    headers = {"Origin": "http://evil.example"}
    async with client(Middleware(CrossSiteGuard, cookie_name="conda-store-auth")) as http:
        assert (await http.post("/login/", headers=headers)).status_code == 403


async def test_every_answer_has_the_headers_that_it_has_not_set_itself() -> None:
    async with client(Middleware(SecurityHeaders)) as http:
        plain, own = (await http.get("/x")).headers, (await http.get("/own")).headers
        missing = (await http.get("/none")).headers
    for headers in (plain, missing):
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "private, no-cache"
    assert own["Cache-Control"] == "no-store"
