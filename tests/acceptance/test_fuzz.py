"""No request, however odd, is a 500, and every answer is what the document says (schemathesis)."""

import contextlib
import socket
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance

from condastore.http.app import API, API_V2
from condastore.http.openapi import document
from tests.acceptance.harness import Daemon

OPERATIONS = [
    (path, method)
    for path, operations in document({"v1": API, "v2": API_V2}, "")["paths"].items()
    for method in operations
]
EXAMPLES = 12


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_answers_are_as_described(shared_daemon: Daemon, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_url(f"{shared_daemon.url}/openapi.json")
    schema.config.update(base_url=shared_daemon.url)
    operation = schema[path][method]
    headers = {"Authorization": f"Bearer {shared_daemon.token}"}

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call(headers=headers)
        case.validate_response(response, checks=[not_a_server_error, response_schema_conformance])

    ask()


@pytest.mark.parametrize(
    "path",
    [
        "/environment/%00/x/",
        "/environment/%ff/%fe/",
        "/environment/a%2Fb/c/",
        "/namespace/%ed%a0%80/",
        "/build/%20/",
        "/build/1e5/",
        f"/build/{10**400}/",
        f"/build/-{10**30}/packages/",
        "/build/?page=99999999999999999999",
        "/build/?search=%00&page=1",
        "/environment/?search=%ff%fe",
        "/environment/?packages=" + "&packages=".join("x" * 50 for _ in range(200)),
        "/environment/?sort_by=%00",
        "/build/?environment_id=-1",
        "/package/?search=%",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/build/1/logs/?offset=99999999999999999999",
        "/environment/?jwt=x",
        "/environment/?jwt=" + "x" * 50_000,
    ],
)
def test_odd_paths_and_queries(shared_daemon: Daemon, path: str) -> None:
    answer = shared_daemon.request("GET", path)
    assert answer.status_code < 500, answer.text


@pytest.mark.parametrize(
    "cursor", ["x", "e30=", "bnVsbA==", "W10=", "eyJsYXN0X2lkIjoieCJ9", "A" * 60_000, "%00", "é"]
)
def test_a_cursor_that_is_none_of_ours(shared_daemon: Daemon, cursor: str) -> None:
    url = f"{shared_daemon.url}/api/v2/environment/"
    answer = shared_daemon.client.get(url, params={"cursor": cursor})
    assert answer.status_code == 400, answer.text


def test_a_query_and_headers_without_end(shared_daemon: Daemon) -> None:
    host, _, port = shared_daemon.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as sending:
        query = b"search=" + b"x" * 64 * 1024
        sending.sendall(b"GET /api/v1/build/?" + query + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sending.recv(100).split()[1] in (b"400", b"414", b"431")
    with contextlib.suppress(httpx.RemoteProtocolError):
        answer = shared_daemon.request("GET", "/", headers={"X": "y" * 1024 * 1024})
        assert answer.status_code in (400, 431)
    assert shared_daemon.request("GET", "/").status_code == 200


def test_slow_senders_do_not_stop_the_others(shared_daemon: Daemon) -> None:
    """Hundreds that have begun a request and say no more (fault F81)."""
    host, _, port = shared_daemon.url.removeprefix("http://").partition(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(400)]
    try:
        for sending in sockets:
            sending.sendall(b"POST /api/v1/specification/ HTTP/1.1\r\nHost: localhost\r\n")
        assert shared_daemon.request("GET", "/").status_code == 200
    finally:
        for sending in sockets:
            sending.close()
