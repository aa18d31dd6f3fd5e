"""Signing in at a real provider, which checks what it is sent."""

from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from condastore.auth import Identity
from condastore.auth.oauth import (
    ANSWER_BYTES,
    GenericOAuthAuthentication,
    GithubOAuthAuthentication,
    JupyterHubOAuthAuthentication,
)
from condastore.errors import ConfigurationError, Unauthorized
from tests.auth.provider import CLIENT, Provider, running

BACK = "http://localhost:8080/oauth_callback/"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with running() as found:
        yield found


def generic(provider: Provider, **settings: Any) -> GenericOAuthAuthentication:
    found = GenericOAuthAuthentication(
        authorize_url=f"{provider.url}/authorize",
        access_token_url=f"{provider.url}/token",
        user_data_url=f"{provider.url}/user",
        user_data_key="name",
        client_id=CLIENT[0],
        client_secret=CLIENT[1],
        **settings,
    )
    found.check()
    return found


def openid(provider: Provider) -> GenericOAuthAuthentication:
    return generic(provider, issuer=provider.url, jwks_url=f"{provider.url}/keys")


async def signed_in(
    back_end: GenericOAuthAuthentication,
    provider: Provider,
    *,
    verifier: str = "verifier",
    nonce: str = "nonce",
) -> Identity | None:
    code, state = provider.authorize(back_end.authorization(BACK, "state", "verifier", "nonce"))
    assert state == "state"
    return await back_end.identify(code, BACK, verifier, nonce)


async def test_who_signs_in_is_whom_the_provider_names(provider: Provider) -> None:
    identity = await signed_in(generic(provider), provider)
    assert identity == Identity("ada", {"ada/*": ("admin",)})


async def test_an_id_token_is_checked(provider: Provider) -> None:
    assert await signed_in(openid(provider), provider) is not None


async def test_a_code_without_its_verifier_is_worth_nothing(provider: Provider) -> None:
    with pytest.raises(Unauthorized, match="status 400"):
        await signed_in(generic(provider), provider, verifier="stolen")


async def test_a_code_works_once(provider: Provider) -> None:
    back_end = generic(provider)
    code, _ = provider.authorize(back_end.authorization(BACK, "state", "verifier", "nonce"))
    assert await back_end.identify(code, BACK, "verifier", "nonce") is not None
    with pytest.raises(Unauthorized):
        await back_end.identify(code, BACK, "verifier", "nonce")


async def test_an_id_token_for_another_login_is_refused(provider: Provider) -> None:
    with pytest.raises(Unauthorized, match="for another login"):
        await signed_in(openid(provider), provider, nonce="mine")


@pytest.mark.parametrize(
    "claims",
    [{"iss": "http://evil.example"}, {"aud": "another"}, {"exp": 1}, {"iat": "soon"}],
)
async def test_an_id_token_with_wrong_claims_is_refused(
    provider: Provider, claims: dict[str, Any]
) -> None:
    provider.claims = claims
    with pytest.raises(Unauthorized, match="id token is not valid"):
        await signed_in(openid(provider), provider)


async def test_an_id_token_of_another_key_is_refused(provider: Provider) -> None:
    provider.signs_with = rsa.generate_private_key(65537, 2048)
    with pytest.raises(Unauthorized, match="id token is not valid"):
        await signed_in(openid(provider), provider)


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/token", 500, b"secrets of the provider"),
        ("/token", 200, b"<html>"),
        ("/token", 200, b"[]"),
        ("/token", 200, b"{}"),
        ("/token", 302, b""),
        ("/token", 200, b"[" * 100_000),
        ("/user", 403, b"{}"),
        ("/user", 200, b'"' + b"x" * ANSWER_BYTES + b'"'),
    ],
)
async def test_a_provider_that_answers_nonsense(
    provider: Provider, path: str, status: int, body: bytes
) -> None:
    """Its text is told to nobody (fault F88)."""
    provider.answers[path] = (status, body)
    with pytest.raises(Unauthorized, match="the login provider") as caught:
        await signed_in(generic(provider), provider)
    assert "secrets" not in str(caught.value)


@pytest.mark.parametrize("name", [7, None, "", "a/b", "*", ["ada"]])
async def test_a_name_that_can_be_no_namespace(provider: Provider, name: object) -> None:
    provider.user = {"name": name}
    assert await signed_in(generic(provider), provider) is None


async def test_a_provider_that_is_away() -> None:
    with running() as provider:
        back_end = generic(provider)
    with pytest.raises(Unauthorized, match="can't be reached"):
        await back_end.identify("code", BACK, "verifier", "nonce")


def test_github_and_jupyterhub_know_their_own_urls() -> None:
    github = GithubOAuthAuthentication(client_id="x")
    github.check()
    assert github.authorize_url == "https://github.com/login/oauth/authorize"
    assert (github.user_data_url, github.user_data_key) == ("https://api.github.com/user", "login")
    hub = JupyterHubOAuthAuthentication(client_id="x", jupyterhub_url="https://hub.example")
    hub.check()
    assert hub.access_token_url == "https://hub.example/hub/api/oauth2/token"
    assert (hub.access_scope, hub.user_data_key) == ("profile", "name")


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({}, "authorize_url"),
        ({"authorize_url": "x", "access_token_url": "x"}, "client_id"),
    ],
)
def test_what_is_missing_is_named(settings: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        GenericOAuthAuthentication(**settings).check()
    with pytest.raises(ConfigurationError, match="jupyterhub_url"):
        JupyterHubOAuthAuthentication().check()


def test_the_way_back_is_configured_or_made_of_the_request(provider: Provider) -> None:
    assert generic(provider).redirect_uri(None, BACK) == BACK
    fixed = generic(provider, oauth_callback_url="https://store.example/back")
    assert fixed.redirect_uri(None, BACK) == "https://store.example/back"
    made = generic(provider, oauth_callback_url=lambda request: f"https://{request}/back")
    assert made.redirect_uri("other.example", BACK) == "https://other.example/back"
