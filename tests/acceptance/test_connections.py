"""Connections that only take room: those who really ask are answered as ever."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from condastore.http.listener import raise_file_limit
from tests.acceptance.harness import Daemon, running
from tests.patience import PATIENCE_S, is_quick

HEAD = b"POST /api/v1/specification/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
# More than most systems let a process have without asking.
MANY = 2000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    options = [f"--CondaStoreServer.{name}_timeout=2" for name in ("keep_alive", "read")]
    directory: Path = tmp_path_factory.mktemp("connections")
    with running(directory / "data", *options) as found:
        yield found


def connect(daemon: Daemon, begin: bytes) -> socket.socket:
    url = urlsplit(daemon.url)
    connection = socket.create_connection((url.hostname, url.port or 80), timeout=PATIENCE_S)
    connection.sendall(begin)
    return connection


def test_many_idle_and_slow_connections_hold_up_nobody(daemon: Daemon) -> None:
    raise_file_limit()
    beginnings = (b"", b"GET / HTTP/1.1\r\nHost: local", HEAD + b"{")
    opened = [connect(daemon, beginnings[number % 3]) for number in range(MANY)]
    try:

        def attempt() -> float:
            began = time.monotonic()
            assert daemon.request("GET", "/permission/").status_code == 200
            return time.monotonic() - began

        assert is_quick(attempt, 1, 5)
    finally:
        for connection in opened:
            connection.close()


@pytest.mark.parametrize("begin", [b"", b"GET /api/v1/ HTTP/1.1\r\nHost: local"])
def test_a_connection_without_a_whole_request_ends(daemon: Daemon, begin: bytes) -> None:
    with connect(daemon, begin) as connection:
        assert b" 200 " not in connection.recv(1000)
        assert connection.recv(1000) == b""


def test_a_body_that_does_not_come_is_refused(daemon: Daemon) -> None:
    with connect(daemon, HEAD + b"{") as connection:
        answer = connection.recv(10_000)
        while not answer.endswith(b"}"):
            answer += connection.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the rest of the body did not come within 2 s" in answer
