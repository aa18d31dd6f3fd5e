"""The way to the provider and back, in one browser."""

from typing import Any
from urllib.parse import urlsplit

from condastore.database import Database
from tests.auth.provider import Provider, running
from tests.auth.test_oauth import openid
from tests.http.test_login import site, user_of


async def begun(client: Any, provider: Provider, query: str = "") -> str:
    """Goes to the provider and signs in there; returns the way back."""
    response = await client.get(f"/login/{query}")
    assert response.status_code == 307
    location = response.headers["location"]
    assert location.startswith(provider.url)
    code, state = provider.authorize(location)
    return f"/oauth_callback/?code={code}&state={state}"


async def test_there_and_back(database: Database) -> None:
    with running() as provider:
        async with site(database, openid(provider)) as client:
            back = await begun(client, provider, "?next=/ui/%3Ca%3E")
            page = await client.get(back)
            assert page.status_code == 200
            assert await user_of(client) == "ada"
            # A redirect would lose the cookie of this site only.
            assert 'href="/ui/&lt;a&gt;"' in page.text
            assert "nonce-" in page.headers["content-security-policy"]
            assert (await client.get(back)).status_code == 401


async def test_a_way_back_that_did_not_begin_here(database: Database) -> None:
    """Login CSRF: somebody else's code and state."""
    with running() as provider:
        async with (
            site(database, openid(provider)) as client,
            site(database, openid(provider)) as other,
        ):
            theirs = await begun(other, provider)
            response = await client.get(theirs)
            assert response.status_code == 401
            assert response.json()["message"] == "OAuth states do not match"
            await begun(client, provider)
            shown = await client.get(theirs, headers={"Accept": "text/html"})
            assert shown.status_code == 401
            assert "did not begin in this browser" in shown.text
            assert await user_of(client) is None


async def test_a_user_who_is_not_let_in(database: Database) -> None:
    with running() as provider:
        async with site(database, openid(provider)) as client:
            back = urlsplit(await begun(client, provider)).query.partition("&")[2]
            response = await client.get(f"/oauth_callback/?error=access_denied&{back}")
            assert response.status_code == 403
            # The page that he wanted is not lost by trying again.
            browser = {"Accept": "text/html,*/*"}
            back = await begun(client, provider, "?next=/ui/x/")
            shown = await client.get(back.replace("code=", "error="), headers=browser)
            assert shown.status_code == 403
            assert "The login provider did not let you in." in shown.text
            assert 'href="/login/"' in shown.text
            provider.user = {"name": "a/b"}
            response = await client.get(await begun(client, provider))
            assert response.status_code == 403
            assert await user_of(client) is None
            provider.user = {"name": "ada"}
            again = await client.get(await begun(client, provider), headers=browser)
            assert 'href="/ui/x/"' in again.text


async def test_there_is_no_form(database: Database) -> None:
    with running() as provider:
        async with site(database, openid(provider)) as client:
            assert (await client.post("/login/", json={"username": "ada"})).status_code == 405
