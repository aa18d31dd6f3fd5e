"""Private channels: credentials open them, and are seen nowhere else (I13)."""

import json
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.server import ChannelServer, serve
from tests.acceptance.harness import Daemon, running

USER, PASSWORD, TOKEN = "somebody", "s3cret/pass word", "tk-0123456789"
ACCESS: dict[str, dict[str, Any]] = {
    "basic": {"basic": (USER, PASSWORD)},
    "bearer": {"bearer": TOKEN},
    "token": {"token": TOKEN},
}
CREDENTIALS = {
    "basic": {"username": USER, "password": PASSWORD},
    "bearer": {"bearer": TOKEN},
    "token": {"token": TOKEN},
}


def specification(server: ChannelServer) -> dict[str, Any]:
    return {"name": "private", "channels": [server.root], "dependencies": ["harmless"]}


@contextmanager
def configured(directory: Path, *credentials: dict[str, str]) -> Iterator[Daemon]:
    """A daemon whose configuration file holds credentials."""
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / "config.py"
    config.write_text(f"c.CondaStore.channel_credentials = {list(credentials)!r}\n")
    with running(directory / "data", f"--config={config}", "--log-level=10") as daemon:
        yield daemon


def assert_tells_no_secret(daemon: Daemon, build_id: int) -> None:
    """Looks for the secrets in every answer, and in every file that condastore wrote."""
    secrets = {PASSWORD, TOKEN, urllib.parse.quote(PASSWORD), urllib.parse.quote(PASSWORD, safe="")}
    paths = ["", "logs/", "packages/", "lockfile/", "yaml/"]
    answers = [daemon.request("GET", f"/build/{build_id}/{path}").text for path in paths]
    with daemon.socket(build_id) as connection:
        answers += [str(frame) for frame in connection]
    answers.append(daemon.request("GET", "/environment/").text)
    for answer in answers:
        assert not [secret for secret in secrets if secret in answer]
    for path in daemon.data.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in data], path


@pytest.mark.parametrize("kind", ACCESS)
def test_credentials_open_a_channel_and_are_seen_nowhere(
    tmp_path: Path, hostile_directory: Path, kind: str
) -> None:
    with serve(hostile_directory, **ACCESS[kind]) as server:
        credential = {"url": server.root, **CREDENTIALS[kind]}
        with configured(tmp_path, credential) as daemon:
            build_id = daemon.submit(specification(server))
            daemon.completed(build_id)
            lockfile = daemon.request("GET", f"/build/{build_id}/lockfile/").json()
            (package,) = lockfile["package"]
            assert package["url"] == f"{server.root}/noarch/harmless-1.0-0.conda"
            assert [channel["url"] for channel in lockfile["metadata"]["channels"]] == [server.root]
            assert_tells_no_secret(daemon, build_id)
            # The lockfile is as good as the specification.
            again = daemon.submit(json.dumps(lockfile), is_lockfile=True, environment_name="again")
            daemon.completed(again)
            assert_tells_no_secret(daemon, again)


@pytest.mark.parametrize("kind", ACCESS)
def test_without_credentials_it_is_said_that_they_are_missing(
    shared_daemon: Daemon, hostile_directory: Path, kind: str
) -> None:
    with serve(hostile_directory, **ACCESS[kind]) as server:
        build = shared_daemon.ended(shared_daemon.submit(specification(server)))
    assert build["status"] == "FAILED"
    assert server.root in build["status_info"]
    assert "401" in build["status_info"] or "403" in build["status_info"]


def test_wrong_credentials_are_not_repeated(tmp_path: Path, hostile_directory: Path) -> None:
    with serve(hostile_directory, basic=("other", "other")) as server:
        credential = {"url": server.root, **CREDENTIALS["basic"]}
        with configured(tmp_path, credential) as daemon:
            build_id = daemon.submit(specification(server))
            build = daemon.ended(build_id)
            assert build["status"] == "FAILED"
            assert "401" in build["status_info"]
            assert_tells_no_secret(daemon, build_id)


def test_credentials_go_to_their_own_host_only(tmp_path: Path, hostile_directory: Path) -> None:
    with (
        serve(hostile_directory, bearer=TOKEN) as server,
        serve(hostile_directory, bearer=TOKEN) as other,
    ):
        credential = {"url": f"{server.root}/elsewhere", "bearer": TOKEN}
        with configured(tmp_path, credential) as daemon:
            build = daemon.ended(daemon.submit(specification(other)))
            assert build["status"] == "FAILED"
            build = daemon.ended(daemon.submit(specification(server)))
            assert build["status"] == "FAILED"
        assert other.requests == other.refused
        assert server.requests == server.refused


@pytest.mark.parametrize(
    "url",
    [
        f"https://{USER}:{TOKEN}@example.org/channel",
        f"https://example.org/t/{TOKEN}/channel",
    ],
)
def test_credentials_in_a_specification_are_refused_and_not_repeated(
    shared_daemon: Daemon, url: str
) -> None:
    specifications: list[dict[str, Any]] = [
        {"name": "x", "channels": [url]},
        {"name": "x", "dependencies": [f"{url}::numpy"]},
        {"name": "x", "dependencies": ["python", {"pip": [f"--index-url {url}"]}]},
        {"name": "x", "dependencies": ["python", {"pip": [f"thing @ {url}/thing.whl"]}]},
    ]
    for wrong in specifications:
        answer = shared_daemon.post(wrong)
        assert answer.status_code == 400
        assert TOKEN not in answer.text
    assert TOKEN not in shared_daemon.output.read_text()
