"""A daemon that is started oddly: without streams, a home or a language, with any umask."""

import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from condastore.auth import AdminToken
from tests.acceptance.harness import Daemon, eventually

DEADLINE_S = 60
# What stands before it makes the process odd.
START = '{how}; exec "$@"'


@contextmanager
def started(data: Path, how: str, *options: str, bare: bool = False) -> Iterator[httpx.Client]:
    """A daemon that a shell has started after it did something; yields a client of it."""
    path = data / "http.sock"
    daemon = Daemon(data, f"--CondaStoreServer.unix_socket={path}", *options)
    data.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "condastore", "serve", f"--data={data}", *daemon.arguments]
    shell = ["bash", "-c", START.format(how=how), "bash", *command, *daemon.defaults()]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"} if bare else dict(os.environ)
    with daemon.output.open("ab") as output:
        daemon.process = subprocess.Popen(
            shell, stdout=output, stderr=subprocess.STDOUT, env=environment
        )
    client = httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), base_url="http://localhost", timeout=60
    )

    def is_there() -> bool:
        assert daemon.process is not None and daemon.process.poll() is None, said(data)
        return path.exists()

    try:
        # It listens before it can be seen, and answers when it is ready.
        eventually(is_there, DEADLINE_S, what=lambda: said(data))
        assert client.get("/api/v1/").status_code == 200
        token = AdminToken((data / "secret").read_text().strip()).text
        client.headers["Authorization"] = f"Bearer {token}"
        yield client
        assert daemon.stop() == 0, said(data)
    finally:
        client.close()
        if daemon.process.poll() is None:
            daemon.kill()


def build(client: httpx.Client, channel: str) -> None:
    """Builds the environment `e`."""
    text = f'{{"name": "e", "channels": ["{channel}"], "dependencies": ["harmless"]}}'
    answer = client.post("/api/v1/specification/", json={"specification": text})
    build_id = answer.json()["data"]["build_id"]

    def found() -> str:
        status: str = client.get(f"/api/v1/build/{build_id}/").json()["data"]["status"]
        return status

    eventually(lambda: found() in ("COMPLETED", "FAILED"), 120)
    log = client.get(f"/api/v1/build/{build_id}/logs/", follow_redirects=True).text
    assert found() == "COMPLETED", log


@pytest.mark.parametrize(
    "how",
    [
        "exec <&- >&- 2>&-",
        "exec </dev/null >/dev/full 2>/dev/full",
        # A pipe whose reader is gone.
        "exec > >(:) 2>&1; wait",
    ],
    ids=["closed", "full", "broken"],
)
def test_F101_streams_that_take_nothing(tmp_path: Path, tiny: str, how: str) -> None:
    with started(tmp_path / "data", how) as client:
        build(client, tiny)
        # What is logged goes nowhere, and what is stored stays whole.
        assert client.get("/api/v1/build/999/").status_code == 404
    with started(tmp_path / "data", ":") as client:
        assert client.get("/api/v1/build/1/").json()["data"]["status"] == "COMPLETED"


@pytest.mark.parametrize("umask", ["0077", "0000"])
def test_F104_locale_C_no_home_and_any_umask(tmp_path: Path, tiny: str, umask: str) -> None:
    data = tmp_path / "data"
    with started(data, f"umask {umask}", bare=True) as client:
        build(client, tiny)
        link = data / "state" / "default" / "envs" / "e"
        prefix = link.resolve()
        # Whoever may enter the data directory may use environments; only the daemon changes them.
        for path in [link.parent, *[p for p in prefix.parents if p.is_relative_to(data / "state")]]:
            assert path.stat().st_mode & 0o005 == 0o005, path
        for path in prefix.rglob("*"):
            assert path.is_symlink() or path.stat().st_mode & 0o004, path
        # And nothing else is anybody else's business.
        rows = data.glob("condastore.sqlite*")
        for path in (data / "secret", data / "logs", data / "storage", *rows):
            assert path.stat().st_mode & 0o077 == 0, path
        for path in data.rglob("*"):
            if not path.is_symlink() and path.name != "http.sock":
                assert not path.stat().st_mode & 0o002, path


def test_F102_few_descriptors(tmp_path: Path, tiny: str) -> None:
    data = tmp_path / "data"
    with started(data, "ulimit -n 96") as client:
        build(client, tiny)
        taken = [unix_client(data / "http.sock") for _ in range(200)]
        try:
            # Those beyond what it may open wait, and it goes on.
            eventually(lambda: "are open, and no more may be" in said(data), DEADLINE_S)
        finally:
            for connection in taken:
                connection.close()
        assert client.get("/api/v1/build/1/").json()["data"]["status"] == "COMPLETED"
        build(client, tiny)


def said(data: Path) -> str:
    return (data / "daemon.out").read_text()


def unix_client(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def test_who_closes_the_terminal_stops_the_daemon(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "condastore", "serve", f"--data={tmp_path / 'data'}"]
        os.execv(sys.executable, [*command, "--port=0", "--CondaStoreWorker.index_interval=0"])
    printed = b""
    while b"to sign in" not in printed:
        printed += os.read(terminal, 1000)
    # Asked for, it is a reload.
    os.kill(pid, signal.SIGHUP)
    while b"the configuration is read again" not in printed:
        printed += os.read(terminal, 1000)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
