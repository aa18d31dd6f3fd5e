"""Nobody is sent where a stranger chose."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from condastore.http.redirects import safe_next


def request(host: str = "store.example:8080") -> Request:
    headers = [(b"host", host.encode())]
    return Request({"type": "http", "method": "GET", "headers": headers})


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/conda-store/ui/?a=b#c",
        "http://store.example:8080/x",
        "https://store.example/x",
        "http://STORE.example:8888/lab/tree",
    ],
)
def test_this_host_on_any_port_is_fine(target: str) -> None:
    assert safe_next(request(), target) == target


@pytest.mark.parametrize(
    "target",
    [
        None,
        "",
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        " //evil.example",
        "http://evil.example/",
        "http:evil.example",
        "http:///evil.example",
        "http://store.example@evil.example/",
        "http://user@store.example/",
        "http://store.example.evil.example/",
        "http://[::1/",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://store.example/",
        "evil.example",
        "/" + "x" * 5000,
    ],
)
def test_everything_else_is_not(target: str | None) -> None:
    assert safe_next(request(), target) is None


def test_an_address_in_brackets() -> None:
    assert safe_next(request("[::1]:8080"), "http://[::1]:8888/lab") == "http://[::1]:8888/lab"


@given(st.text())
def test_no_text_is_an_error(target: str) -> None:
    found = safe_next(request(), target)
    assert found is None or (found.startswith("/") and not found.startswith("//")) or "://" in found
