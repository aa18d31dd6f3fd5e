"""The secret of an installation, and who holds its token."""

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.access import ADMINISTRATOR, ANONYMOUS
from condastore.auth import AdminToken, keep_secret
from condastore.errors import ConfigurationError

TOKEN = AdminToken("secret")


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


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


@pytest.mark.parametrize(
    "authorization",
    [
        f"Bearer {TOKEN.text}",
        f"bearer  {TOKEN.text} ",
        f"Basic {basic(f':{TOKEN.text}')}",
        f"BASIC {basic(f'anybody:{TOKEN.text}')}",
    ],
)
def test_whoever_has_the_token_is_the_administrator(authorization: str) -> None:
    assert TOKEN.caller(authorization) is ADMINISTRATOR


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        TOKEN.text,
        f"Token {TOKEN.text}",
        f"Bearer {TOKEN.text[:-1]}",
        f"Bearer {TOKEN.text}x",
        f"Bearer {AdminToken('other').text}",
        f"Basic {TOKEN.text}",
        f"Basic {basic(TOKEN.text)}",
        f"Basic {basic(f'{TOKEN.text}:')}",
        "Basic !!!",
        "Basic é",
        f"Basic {base64.b64encode(b':' + bytes([0xFF])).decode()}",
    ],
)
def test_everybody_else_is_anonymous(authorization: str | None) -> None:
    assert TOKEN.caller(authorization) is ANONYMOUS


@given(st.text(), st.sampled_from(["", "Bearer ", "Basic "]))
def test_no_header_is_an_error(text: str, scheme: str) -> None:
    assert TOKEN.caller(scheme + text.replace(TOKEN.text, "")) is ANONYMOUS
