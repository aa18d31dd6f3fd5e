"""Tokens for pulling: what they grant, for how long, and that nothing else passes for one."""

from datetime import timedelta

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.access import AccessPolicy
from condastore.auth.registry_tokens import AUDIENCE, Grant, RegistryTokens, now
from condastore.auth.tokens import Claims, TokenSigner

SECRET = "s" * 43
TOKENS = RegistryTokens(SECRET, 300)
GRANT = Grant("ada", {"a/b": frozenset({"pull"}), "c/d": frozenset({"pull", "build"})})
SIGNER = TokenSigner(SECRET, "HS256", AccessPolicy.of({}, {}, {}))


def test_a_token_grants_what_it_was_made_for() -> None:
    assert TOKENS.read(TOKENS.sign(GRANT, now())) == GRANT


def test_it_ends() -> None:
    assert TOKENS.read(TOKENS.sign(GRANT, now() - timedelta(seconds=299))) == GRANT
    assert TOKENS.read(TOKENS.sign(GRANT, now() - timedelta(seconds=301))) is None


def test_another_s_is_worth_nothing() -> None:
    assert RegistryTokens("x" * 43, 300).read(TOKENS.sign(GRANT, now())) is None


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": "another", "exp": 2**40, "sub": "x", "access": {}},
        {"exp": 2**40, "sub": "x", "access": {}},
        {"aud": AUDIENCE, "sub": "x", "access": {}},
        {"aud": AUDIENCE, "exp": 2**40, "access": {}},
    ],
)
def test_what_is_missing_in_a_token(claims: dict[str, object]) -> None:
    assert TOKENS.read(jwt.encode(claims, SECRET, "HS256")) is None


def test_the_two_kinds_are_never_taken_for_each_other() -> None:
    """Not even if both had one secret."""
    api = SIGNER.sign(Claims("ada", {}, now() + timedelta(hours=1)))
    assert SIGNER.read(api) is not None
    assert TOKENS.read(api) is None
    assert SIGNER.read(TOKENS.sign(GRANT, now())) is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert TOKENS.read(text) is None
    assert TOKENS.read("x" * 20_000) is None
