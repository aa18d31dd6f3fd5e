"""The secret of an installation, and who holds its token."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.access import DEFAULT_ROLES, AccessPolicy
from condastore.auth import AdminToken, TokenSigner, keep_secret
from condastore.auth.tokens import Claims
from condastore.errors import ConfigurationError

TOKEN = AdminToken("secret")
KEY = "a key of the tests that is long enough for every algorithm, also HS512"
SIGNER = TokenSigner(KEY, "HS256", AccessPolicy.of(DEFAULT_ROLES, {}, {}))


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "secret"
    secret = keep_secret(path)
    assert len(secret) == 64
    assert path.stat().st_mode & 0o777 == 0o600
    assert keep_secret(path) == secret
    assert keep_secret(tmp_path / "other") != secret


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_secret_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    keep_secret(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=r"can be read by others.*chmod 600"):
        keep_secret(path)


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    """Anybody could compute its token."""
    path = tmp_path / "secret"
    path.write_text("\n")
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="is empty"):
        keep_secret(path)


def test_a_token_is_that_of_its_secret_and_does_not_tell_it() -> None:
    assert AdminToken("secret").text == TOKEN.text
    assert AdminToken("Secret").text != TOKEN.text
    assert len(TOKEN.text) == 43
    assert "secret" not in TOKEN.text


def test_only_the_same_text_is_the_admin_token() -> None:
    assert TOKEN.is_text(TOKEN.text)
    for other in ("", TOKEN.text[:-1], TOKEN.text + "x", AdminToken("other").text, "é"):
        assert not TOKEN.is_text(other)


# Tokens of users


def claims(**changes: Any) -> Claims:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    given: dict[str, Any] = {
        "primary_namespace": "ada",
        "role_bindings": {"ada/*": ("admin",), "lab/env": ("viewer", "developer")},
        "expires": soon,
        "id": "1",
        "user": "ada",
    }
    return Claims(**{**given, **changes})


def test_a_token_says_what_was_signed() -> None:
    for said in (claims(), claims(user=None), claims(id=None, is_anonymous=True)):
        assert SIGNER.read(SIGNER.sign(said)) == said


def test_the_payload_is_that_of_conda_store() -> None:
    payload = jwt.decode(SIGNER.sign(claims()), options={"verify_signature": False})
    assert payload["primary_namespace"] == "ada"
    assert payload["role_bindings"] == {"ada/*": ["admin"], "lab/env": ["viewer", "developer"]}
    assert isinstance(payload["exp"], int)


def test_a_token_that_conda_store_would_make_is_read() -> None:
    payload = {"exp": int(time.time()) + 60, "role_bindings": {"*/*": ["editor"]}}
    said = SIGNER.read(jwt.encode(payload, KEY, "HS256"))
    assert said is not None
    assert (said.primary_namespace, said.role_bindings) == ("default", {"*/*": ("developer",)})


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": 2**40, "primary_namespace": "a/b"},
        {"exp": 2**40, "primary_namespace": 7},
        {"exp": 2**40, "role_bindings": {"*/*": ["king"]}},
        {"exp": 2**40, "role_bindings": {"everything": ["admin"]}},
        {"exp": 2**40, "role_bindings": ["admin"]},
        {"exp": 2**62},
    ],
)
def test_a_token_that_says_nonsense_is_none(payload: dict[str, Any]) -> None:
    assert SIGNER.read(jwt.encode(payload, KEY, "HS256")) is None


def test_only_the_one_algorithm_and_the_one_key_count() -> None:
    payload = {"exp": int(time.time()) + 60, "role_bindings": {"*/*": ["admin"]}}
    unsigned = jwt.encode(payload, "", "none")
    for token in (
        unsigned,
        unsigned + "x",
        jwt.encode(payload, KEY, "HS512"),
        jwt.encode(payload, KEY.upper(), "HS256"),
        SIGNER.sign(claims())[:-2],
        "a.b.c",
        "x" * 100_000,
    ):
        assert SIGNER.read(token) is None


@given(st.text())
def test_no_text_is_an_error(text: str) -> None:
    assert SIGNER.read(text) is None
