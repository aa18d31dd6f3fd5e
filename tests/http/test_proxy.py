"""What a reverse proxy says of a request's client."""

import pytest
from starlette.types import Message, Receive, Scope, Send

from condastore.http.proxy import ForwardedHeaders


async def seen(kind: str, **headers: str) -> tuple[str, str]:
    """Returns the scheme and the host that the application sees."""
    found: list[tuple[str, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        hosts = [value.decode() for name, value in scope["headers"] if name == b"host"]
        assert len(hosts) == 1
        found.append((scope["scheme"], hosts[0]))

    async def receive() -> Message:
        raise AssertionError

    async def send(message: Message) -> None:
        raise AssertionError(message)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {
        "type": kind,
        "scheme": "http" if kind == "http" else "ws",
        "headers": [(b"host", b"inner:8080"), *raw],
    }
    before = {**scope, "headers": list(scope["headers"])}
    await ForwardedHeaders(app)(scope, receive, send)
    assert scope == before
    return found[0]


async def test_nothing_said() -> None:
    assert await seen("http") == ("http", "inner:8080")


async def test_scheme_and_host() -> None:
    said = {"x_forwarded_proto": "https", "x_forwarded_host": "outer.example"}
    assert await seen("http", **said) == ("https", "outer.example")
    assert await seen("websocket", **said) == ("wss", "outer.example")


async def test_the_first_of_several_proxies_counts() -> None:
    said = {"x_forwarded_proto": "HTTPS , http", "x_forwarded_host": "a.example:8443, b"}
    assert await seen("http", **said) == ("https", "a.example:8443")


@pytest.mark.parametrize(
    "host", ["", " ", "a b", 'a"b', "a/b", "a:b", "a:1:2", "é", "[::1", "a\x00", "@a"]
)
async def test_what_is_no_host(host: str) -> None:
    assert await seen("http", x_forwarded_host=host) == ("http", "inner:8080")


async def test_addresses() -> None:
    assert await seen("http", x_forwarded_host="[::1]:8080") == ("http", "[::1]:8080")
    assert await seen("http", x_forwarded_proto="gopher") == ("http", "inner:8080")


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("", "127.0.0.1"),
        ("192.0.2.7", "192.0.2.7"),
        # What a client made up stands before what its proxy has seen.
        ("10.0.0.1, 192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::1"),
        ("unknown", "127.0.0.1"),
        ("192.0.2.7,", "127.0.0.1"),
        # As proxies that add a line of their own pass it on.
        ("10.0.0.1\n192.0.2.7", "192.0.2.7"),
        ("192.0.2.7\nunknown", "127.0.0.1"),
    ],
)
async def test_the_address_that_the_proxy_has_seen(said: str, address: str) -> None:
    found: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        del receive, send
        found.append(scope["client"][0])

    async def nothing(*_: object) -> Message:
        raise AssertionError

    scope = {
        "type": "http",
        "scheme": "http",
        "client": ("127.0.0.1", 1),
        "headers": [(b"x-forwarded-for", line.encode()) for line in said.split("\n")],
    }
    await ForwardedHeaders(app)(scope, nothing, nothing)  # type: ignore[arg-type]
    assert found == [address]
