"""Daemons that are on a Unix socket, and no network."""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.acceptance.harness import Daemon, eventually


def serves_on(path: Path, daemon: Daemon) -> httpx.Client:
    """Waits until a daemon serves on a Unix socket; returns a client of it."""
    read = daemon.output.read_text
    eventually(lambda: f"on the Unix socket {path}" in read(), what=read)
    token = re.search(r"change anything: (\S+)\n", read())
    assert token is not None
    return httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)),
        headers={"Authorization": f"Bearer {token[1]}"},
        timeout=30,
        base_url="http://condastore",
    )


@contextmanager
def on_socket(
    data: Path, path: Path, *options: str, within: Sequence[str] = (), **popen: object
) -> Iterator[Daemon]:
    """A daemon on a Unix socket, started by the command `within`; it may not serve yet."""
    daemon = Daemon(data, f"--CondaStoreServer.unix_socket={path}", *options)
    data.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "condastore", "serve", f"--data={data}", *daemon.arguments]
    with daemon.output.open("ab") as output:
        daemon.process = subprocess.Popen(
            [*within, *command, *daemon.defaults()],
            **{"stdout": output, "stderr": subprocess.STDOUT, **popen},  # type: ignore[call-overload]
        )
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
