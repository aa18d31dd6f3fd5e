"""The token of a request, wherever it is."""

import base64
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from condastore.http.context import presented_token


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def presented(authorization: str | None = None, cookie: str | None = None) -> str | None:
    headers = []
    if authorization is not None:
        headers.append((b"authorization", authorization.encode("latin-1", "replace")))
    if cookie is not None:
        headers.append((b"cookie", cookie.encode()))
    authentication = SimpleNamespace(cookie_name="conda-store-auth")
    app = SimpleNamespace(state=SimpleNamespace(authentication=authentication))
    return presented_token(HTTPConnection({"type": "http", "headers": headers, "app": app}))


@pytest.mark.parametrize(
    ("authorization", "token"),
    [
        ("Bearer t", "t"),
        ("bearer  t ", "t"),
        (f"Basic {basic(':t')}", "t"),
        (f"BASIC {basic('anybody:t')}", "t"),
        (f"Basic {basic('anybody:t:u')}", "t:u"),
        (None, None),
        ("", None),
        ("t", None),
        ("Token t", None),
        ("Basic !!!", None),
        ("Basic é", None),
        (f"Basic {base64.b64encode(b':' + bytes([0xFF])).decode()}", None),
    ],
)
def test_the_header(authorization: str | None, token: str | None) -> None:
    assert presented(authorization) == token


def test_the_cookie_comes_first_unless_it_is_empty() -> None:
    assert presented("Bearer header", "conda-store-auth=cookie; other=1") == "cookie"
    assert presented("Bearer header", "conda-store-auth=; other=1") == "header"
    assert presented("Bearer header", "other=1") == "header"


@given(st.text(), st.sampled_from(["", "Bearer ", "Basic "]))
def test_no_header_is_an_error(text: str, scheme: str) -> None:
    presented(scheme + text)
