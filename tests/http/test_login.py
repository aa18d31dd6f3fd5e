"""Signing in and out, as browsers and programs do it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from starlette.applications import Starlette

from condastore.access import DEFAULT_ROLES, AccessPolicy
from condastore.auth import (
    AdminToken,
    Authentication,
    DummyAuthentication,
    Identities,
    TokenAuthentication,
    TokenSigner,
)
from condastore.auth.identities import REFUSALS_A_MINUTE
from condastore.database import Database
from condastore.http import login
from condastore.http.attempts import ADDRESS_ATTEMPTS
from condastore.http.problems import HANDLERS
from condastore.tables import AuditEntry

KEY = "a key of the tests that is long enough for every algorithm, also HS512"
ADA = {"username": "ada", "password": "right"}


@asynccontextmanager
async def site(
    database: Database,
    authentication: Authentication,
    client: tuple[str, int] | None = ("127.0.0.1", 1),
) -> AsyncIterator[httpx.AsyncClient]:
    policy = AccessPolicy.of(DEFAULT_ROLES, {}, {})
    identities = Identities(
        database,
        policy,
        TokenSigner(KEY, "HS256", policy),
        AdminToken(KEY),
        predefined_tokens={},
        default_namespace="default",
        role_mappings_version=1,
    )
    app: Any = Starlette(
        routes=login.routes(authentication, KEY),
        exception_handlers=HANDLERS,
    )
    app.state.parts = SimpleNamespace(identities=identities)
    app.state.authentication = authentication
    app.state.template_vars = {"banner": "<b>hello</b>"}
    transport = httpx.ASGITransport(app, client=client)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as browser:
        browser.identities = identities  # type: ignore[attr-defined]
        yield browser


def dummy() -> DummyAuthentication:
    return DummyAuthentication(password="right")


def token_login() -> TokenAuthentication:
    found = TokenAuthentication()
    found.admin_token = AdminToken(KEY)
    return found


async def user_of(client: Any) -> str | None:
    """Who the client's cookie stands for."""
    caller = await client.identities.caller(client.cookies.get("conda-store-auth"))
    user: str | None = caller.user
    return user


async def test_programs_post_json_and_get_a_cookie(database: Database) -> None:
    async with site(database, dummy()) as client:
        response = await client.post("/login/?next=/ui/", json=ADA)
        assert response.json() == {
            "status": "ok",
            "data": {"redirect_url": "/ui/"},
            "message": None,
        }
        cookie = response.headers["set-cookie"]
        assert re.fullmatch(
            r"conda-store-auth=[\w.-]+; HttpOnly; Max-Age=86(399|400); Path=/; SameSite=strict",
            cookie,
        )
        assert await user_of(client) == "ada"


async def test_the_form_works_without_scripts(database: Database) -> None:
    async with site(database, dummy()) as client:
        page = await client.get("/login/?next=/ui/")
        assert page.status_code == 200
        for part in ('id="username"', 'placeholder="Password"', ">Sign In</button>"):
            assert part in page.text
        assert "script-src 'nonce-" in page.headers["content-security-policy"]
        assert "&lt;b&gt;hello" in page.text
        response = await client.post("/login/", data=ADA)
        assert (response.status_code, response.headers["location"]) == (303, "/ui/")
        assert await user_of(client) == "ada"


async def test_where_to_go_on(database: Database) -> None:
    """As the query says, or the page before, or the base; never to another host."""
    async with site(database, dummy()) as client:

        async def target(query: str = "") -> str:
            response = await client.post(f"/login/{query}", json=ADA)
            found: str = response.json()["data"]["redirect_url"]
            return found

        assert await target() == "http://localhost:8080/"
        await client.get("/login/?next=http://localhost:8888/lab")
        assert await target("?next=/a") == "/a"
        await client.get("/login/?next=http://localhost:8888/lab")
        assert await target("?next=http://evil.example/") == "http://localhost:8888/lab"
        assert await target("?next=//evil.example/") == "http://localhost:8080/"


@pytest.mark.parametrize("how", ["json", "data"])
async def test_a_wrong_password(database: Database, how: str) -> None:
    async with site(database, dummy()) as client:
        wrong: Any = {how: {**ADA, "password": "wrong"}}
        response = await client.post("/login/", **wrong)
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
        assert "Invalid authentication credentials" in response.text
        if how == "json":
            message = {"status": "error", "message": "Invalid authentication credentials"}
            assert response.json() == message


async def test_who_signed_in_and_who_could_not_is_in_the_audit_log(database: Database) -> None:
    secret = AdminToken(KEY).text
    async with site(database, token_login()) as client:
        for username, password in (("ada", secret), ("ada", "wrong"), (secret, ""), ("a\0", "x")):
            body = {"username": username, "password": password}
            await client.post("/login/", json=body)
        await client.get("/login/?token=wrong")
        await client.get(f"/login/?token={secret}")
    async with database.read() as session:
        rows = (await session.scalars(select(AuditEntry).order_by(AuditEntry.id))).all()
    found = [(row.action, row.actor, row.details["address"]) for row in rows]
    assert found[:5] == [
        ("login.succeed", "ada", "127.0.0.1"),
        ("login.fail", "ada", "127.0.0.1"),
        ("login.fail", "unknown", "127.0.0.1"),
        ("login.fail", "unknown", "127.0.0.1"),
        ("login.fail", "unknown", "127.0.0.1"),
    ]
    assert found[5][0] == "login.succeed" and len(found) == 6
    assert all(row.namespace is None for row in rows)
    assert secret not in repr(found)


async def test_of_very_many_failures_at_once_not_all_are_noted(database: Database) -> None:
    async with site(database, dummy()) as client:
        for _ in range(2 * REFUSALS_A_MINUTE):
            await client.identities.refuse("ada", "192.0.2.1")  # type: ignore[attr-defined]
    async with database.read() as session:
        count = await session.scalar(select(func.count()).select_from(AuditEntry))
    assert count is not None and REFUSALS_A_MINUTE <= count < 2 * REFUSALS_A_MINUTE


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{", "json_invalid"),
        (b"[]", "model_attributes_type"),
        (b"{}", "missing"),
        (b'{"username": 7}', "string_type"),
    ],
)
async def test_what_is_no_login(database: Database, body: bytes, kind: str) -> None:
    async with site(database, dummy()) as client:
        response = await client.post("/login/", content=body)
        assert response.status_code == 422
        assert response.json()["detail"][0]["type"] == kind


async def test_a_name_that_can_be_no_namespace(database: Database) -> None:
    async with site(database, dummy()) as client:
        for name in ("", "a/b", "..", "a b", "x" * 300, "-x"):
            response = await client.post("/login/", json={**ADA, "username": name})
            assert response.status_code == 403, name


async def test_guessing_is_slowed_down_and_says_so(database: Database) -> None:
    async with site(database, dummy()) as client:
        for _ in range(5):
            response = await client.post("/login/", json={**ADA, "password": "guess"})
            assert response.status_code == 403
        response = await client.post("/login/", json=ADA)
        assert response.status_code == 429
        assert int(response.headers["retry-after"]) >= 1
        assert "try again in" in response.json()["message"]


@pytest.mark.parametrize("client", [("192.0.2.1", 1), ("", 0), None])
async def test_on_a_unix_socket_nobody_waits_for_what_another_guesses(
    database: Database, client: tuple[str, int] | None
) -> None:
    async with site(database, dummy(), client) as browser:
        for number in range(ADDRESS_ATTEMPTS):
            guess = {"username": f"user{number}", "password": "guess"}
            assert (await browser.post("/login/", json=guess)).status_code == 403
        response = await browser.post("/login/", json=ADA)
        assert response.status_code == (429 if client and client[0] else 200)


async def test_signing_out_ends_the_token_everywhere(database: Database) -> None:
    async with site(database, dummy()) as client:
        await client.post("/login/", json=ADA)
        token = client.cookies["conda-store-auth"]
        shown = await client.get("/logout/?next=/ui/")
        assert shown.status_code == 200
        assert await user_of(client) == "ada"
        response = await client.post("/logout/?next=/ui/")
        assert (response.status_code, response.headers["location"]) == (303, "/ui/")
        assert "Max-Age=0" in response.headers["set-cookie"]
        client.cookies.set("conda-store-auth", token)
        assert await user_of(client) is None
        away = await client.post("/logout/?next=http://evil.example/")
        assert away.headers["location"] == "http://localhost:8080/"


async def test_the_printed_link_signs_in_and_takes_the_token_out_of_sight(
    database: Database,
) -> None:
    async with site(database, token_login()) as client:
        token = AdminToken(KEY).text
        response = await client.get(f"/login/?token={token}&next=/ui/")
        assert (response.status_code, response.headers["location"]) == (303, "/ui/")
        assert response.headers["referrer-policy"] == "no-referrer"
        assert response.headers["cache-control"] == "no-store"
        assert await user_of(client) is not None
        assert token not in client.cookies["conda-store-auth"]


async def test_a_wrong_link_says_so(database: Database) -> None:
    async with site(database, token_login()) as client:
        response = await client.get("/login/?token=guess")
        assert response.status_code == 403
        assert "not valid" in response.text
        assert "condastore token" in response.text
        assert "set-cookie" not in response.headers


async def test_a_token_in_a_link_means_nothing_to_other_back_ends(database: Database) -> None:
    async with site(database, dummy()) as client:
        response = await client.get(f"/login/?token={AdminToken(KEY).text}")
        assert response.status_code == 200
        assert await user_of(client) is None


async def test_the_admin_token_is_the_password_by_default(database: Database) -> None:
    async with site(database, token_login()) as client:
        right = {"username": "ada", "password": AdminToken(KEY).text}
        assert (await client.post("/login/", json={**right, "password": ""})).status_code == 403
        assert (await client.post("/login/", json=right)).status_code == 200
        caller = await client.identities.caller(  # type: ignore[attr-defined]
            client.cookies["conda-store-auth"]
        )
        assert caller.primary_namespace == "ada"
        assert caller.bindings == {"*/*": ("admin",)}


async def test_text_of_strangers_stays_text(database: Database) -> None:
    async with site(database, dummy()) as client:
        name = '"><script>alert(1)</script>'
        response = await client.post("/login/", data={"username": name, "password": "x"})
        assert "<script>alert" not in response.text
