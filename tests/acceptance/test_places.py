"""Where a daemon can be: behind a proxy, on a Unix socket, with a certificate, in odd processes."""

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.sync.client import connect, unix_connect

from tests.acceptance.harness import Daemon, eventually, running
from tests.acceptance.test_crash import refusal
from tests.acceptance.unix_sockets import on_socket, serves_on

ROOT = Path(__file__).parents[2]
PREFIX = "/conda"
DEADLINE_S = 60


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def certificate(authority: trustme.CA, directory: Path) -> tuple[Path, Path]:
    """Writes a certificate for this machine and its key."""
    directory.mkdir(exist_ok=True)
    files = directory / "certificate.pem", directory / "key.pem"
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(files[1])
    for blob in issued.cert_chain_pems:
        blob.write_to_path(files[0], append=blob is not issued.cert_chain_pems[0])
    return files


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def serial(url: str, context: ssl.SSLContext) -> str:
    """Returns the number of the certificate that a new connection gets."""
    host, _, port = url.removeprefix("https://").partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        found = encrypted.getpeercert()
        assert found is not None
        return str(found["serialNumber"])


def test_https_by_itself(tmp_path: Path, authority: trustme.CA, tiny: str) -> None:
    cert, key = certificate(authority, tmp_path / "tls")
    options = [f"--CondaStoreServer.certfile={cert}", f"--CondaStoreServer.keyfile={key}"]
    context = trusting(authority)
    with running(tmp_path / "data", *options) as daemon:
        assert daemon.url.startswith("https://127.0.0.1:")
        daemon.client = httpx.Client(
            timeout=30, verify=context, headers={"Authorization": f"Bearer {daemon.token}"}
        )
        build_id = daemon.submit({"name": "e", "channels": [tiny], "dependencies": ["harmless"]})
        daemon.completed(build_id)
        url = daemon.url.replace("https", "wss")
        with connect(f"{url}/api/v1/build/{build_id}/logs/ws?offset=0", ssl=context) as log:
            assert any("starting build" in str(frame) for frame in log)
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{daemon.url}/api/v1/")
        answer = daemon.client.post(f"{daemon.url}/login/", data={"token": daemon.token})
        assert all("Secure" in it for it in answer.headers.get_list("set-cookie"))

        # A certificate that was renewed is taken by a reload, one that is damaged is not.
        before = serial(daemon.url, context)
        certificate(authority, tmp_path / "tls")
        os.kill(daemon.pid, signal.SIGHUP)
        eventually(lambda: serial(daemon.url, context) != before, DEADLINE_S)
        renewed = serial(daemon.url, context)
        key.write_text("no key")
        os.kill(daemon.pid, signal.SIGHUP)
        refused = "the configuration is wrong, so nothing of it is taken over: the certificate"
        eventually(lambda: refused in daemon.output.read_text(), DEADLINE_S)
        assert serial(daemon.url, context) == renewed
        # The client keeps its connections open, and answers nothing while it does nothing.
        assert daemon.request("GET", "/").status_code == 200
    assert "Traceback" not in daemon.output.read_text()


def test_a_certificate_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    options = [f"--CondaStoreServer.{name}=/nowhere/{name}" for name in ("certfile", "keyfile")]
    refused = refusal(tmp_path / "data", *options)
    assert "the certificate /nowhere/certfile and the key /nowhere/keyfile can't be used" in refused


def test_a_unix_socket(tmp_path: Path, tiny: str) -> None:
    path = tmp_path / "http.sock"
    # What a daemon that was killed leaves.
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with on_socket(tmp_path / "data", path, "--CondaStoreServer.unix_socket_mode=600") as daemon:
        with serves_on(path, daemon) as client:
            assert path.stat().st_mode & 0o777 == 0o600
            specification = f'{{"name": "e", "channels": ["{tiny}"], "dependencies": ["harmless"]}}'
            answer = client.post("/api/v1/specification/", json={"specification": specification})
            build_id = answer.json()["data"]["build_id"]
            uri = f"ws://condastore/api/v1/build/{build_id}/logs/ws?offset=0"
            with unix_connect(str(path), uri) as log:
                assert any("starting build" in str(frame) for frame in log)
            # Those who fail to sign in have no address.
            failed = client.post("/login/", data={"token": "wrong"})
            assert failed.status_code in (400, 401, 403), failed.text
        second = f"--CondaStoreServer.unix_socket={path}"
        in_use = f"the socket {path} can't be used: Address already in use"
        assert in_use in refusal(tmp_path / "other", second)
        assert daemon.stop() == 0
        assert not path.exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [("x" * 200, "path too long"), ("file", "there is a file"), ("no/s", "No such")],
)
def test_a_unix_socket_that_can_not_be(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").touch()
    option = f"--CondaStoreServer.unix_socket={tmp_path / name}"
    refused = refusal(tmp_path / "data", option)
    assert why in refused and "set c.CondaStoreServer.unix_socket to a path" in refused
    assert (tmp_path / "file").read_bytes() == b""


def documented(language: str, holding: str) -> str:
    """Returns the example of the deployment notes that holds a text."""
    text = (ROOT / "docs" / "deployment.md").read_text()
    blocks: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return next(block for block in blocks if holding in block)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="there is no nginx on this machine")
def test_behind_nginx_as_documented(tmp_path: Path, authority: trustme.CA, tiny: str) -> None:
    cert, key = certificate(authority, tmp_path / "tls")
    context = trusting(authority)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = [
        f"--CondaStoreServer.url_prefix={PREFIX}",
        "--CondaStoreServer.behind_proxy=True",
        "--CondaStoreServer.allowed_hosts=127.0.0.1",
    ]
    with running(tmp_path / "data", *options) as daemon:
        inner = daemon.url.removeprefix("http://").removesuffix(PREFIX)
        server = documented("nginx", "proxy_pass")
        for text, value in {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "127.0.0.1:8080": inner,
            "/etc/ssl/condastore.pem": str(cert),
            "/etc/ssl/condastore.key": str(key),
        }.items():
            assert text in server
            server = server.replace(text, value)
        config = tmp_path / "nginx.conf"
        paths = "".join(
            f"{name}_temp_path {tmp_path}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config.write_text(
            f"daemon off;\nuser root;\npid {tmp_path}/nginx.pid;\nerror_log {tmp_path}/error.log;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{paths}{server}}}\n"
        )
        command = ["nginx", "-c", str(config), "-e", str(tmp_path / "error.log")]
        with subprocess.Popen(command) as nginx:
            try:
                outer = f"https://127.0.0.1:{port}{PREFIX}"
                client = httpx.Client(
                    timeout=30, verify=context, headers={"Authorization": f"Bearer {daemon.token}"}
                )
                with client:
                    used_through(outer, client, context, daemon, tiny)
            finally:
                nginx.terminate()


def used_through(
    outer: str, client: httpx.Client, context: ssl.SSLContext, daemon: Daemon, tiny: str
) -> None:
    """Uses a daemon through its proxy."""

    def answers() -> bool:
        try:
            return client.get(f"{outer}/api/v1/").status_code == 200
        except httpx.ConnectError:
            return False

    eventually(answers, DEADLINE_S)
    build_id = daemon.submit({"name": "e", "channels": [tiny], "dependencies": ["harmless"]})
    websocket = outer.replace("https", "wss")
    with connect(f"{websocket}/api/v1/build/{build_id}/logs/ws?offset=0", ssl=context) as log:
        assert any("starting build" in str(frame) for frame in log)
    daemon.completed(build_id)
    # Addresses that the daemon makes are those of the proxy.
    page = client.get(f"{outer}/api/v1/build/", params={"size": 1})
    assert page.status_code == 200
    redirected = client.get(outer.removesuffix(PREFIX) + PREFIX + "/ui")
    assert redirected.headers.get("location", outer).startswith((outer, PREFIX))
    # Outside of the prefix, the proxy may have something else.
    link = client.get(f"{outer}/login/", params={"token": daemon.token})
    assert link.headers["location"] == f"{outer}/"
    # A request id comes from the proxy, and an address that was made up does not get past it.
    answer = client.get(f"{outer}/api/v1/build/999/", headers={"X-Request-Id": "made-up"})
    assert answer.status_code == 404
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])
    # A body of some megabytes passes, and is refused by whom it should be.
    large = client.post(f"{outer}/api/v1/specification/", json={"specification": "x" * 8_000_000})
    assert large.status_code in (400, 413) and large.json()["status"] == "error"
