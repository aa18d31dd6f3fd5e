"""The `conda-store` command of PyPI, as it is, against this daemon (rest-api §15)."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.acceptance.harness import Daemon, running

PROGRAM = Path(sys.executable).with_name("conda-store")
PREFIX = "/conda-store"


@dataclass
class Client:
    """The command, signed in one way."""

    daemon: Daemon
    env: dict[str, str]
    directory: Path

    def run(self, *arguments: str, status: int = 0) -> str:
        """Returns what a command prints."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env={**os.environ, "COLUMNS": "200", **self.env},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    options = (
        f"--CondaStoreServer.url_prefix={PREFIX}",
        "--CondaStoreServer.authentication_class=condastore.auth.DummyAuthentication",
        "--DummyAuthentication.password=secret",
        "--CondaStoreServer.max_page_size=2",
    )
    with running(tmp_path_factory.mktemp("command") / "data", *options) as found:
        yield found


@pytest.fixture(scope="module")
def builds(daemon: Daemon, tiny: str) -> list[int]:
    """Builds of five environments, more than fit on a page."""
    ids = [
        daemon.submit({"name": f"env{n}", "channels": [tiny], "dependencies": ["harmless"]})
        for n in range(4)
    ]
    ids.append(daemon.submit({"name": "broken", "channels": [tiny], "dependencies": ["absent"]}))
    for build_id in ids:
        daemon.ended(build_id)
    return ids


@pytest.fixture(params=["basic", "token"])
def client(request: pytest.FixtureRequest, daemon: Daemon, tmp_path: Path) -> Client:
    # Cookies are not for addresses.
    url = daemon.url.replace("127.0.0.1", "localhost")
    env = {"CONDA_STORE_URL": url, "CONDA_STORE_AUTH": request.param}
    if request.param == "basic":
        env |= {"CONDA_STORE_USERNAME": "ada", "CONDA_STORE_PASSWORD": "secret"}
    else:
        env |= {"CONDA_STORE_TOKEN": daemon.token}
    return Client(daemon, env, tmp_path)


def test_info(client: Client) -> None:
    shown = client.run("info")
    assert "Authenticated True" in shown
    assert "environment:create" in shown


def test_token(client: Client) -> None:
    token = client.run("token", "--permission", "default/*:viewer", "--expiration", "60").strip()
    client.env |= {"CONDA_STORE_AUTH": "token", "CONDA_STORE_TOKEN": token}
    shown = client.run("info")
    assert "environment::read" in shown
    assert "environment:create" not in shown


def test_lists_over_several_pages(client: Client, builds: list[int]) -> None:
    shown = client.run("list", "build")
    assert all(f"│ {build_id} " in shown for build_id in builds)
    assert "default" in client.run("list", "namespace")
    completed = client.run("list", "build", "--status", "COMPLETED")
    assert "FAILED" not in completed
    assert completed.count("COMPLETED") == 4
    failed = client.run("list", "build", "--status", "FAILED", "--artifact", "LOGS")
    assert f"│ {builds[-1]} " in failed
    assert "COMPLETED" in client.run("list", "build", "--package", "harmless")


def test_wait(client: Client, builds: list[int]) -> None:
    client.run("wait", str(builds[0]), "--artifact", "lockfile", "--artifact", "yaml")
    client.run("wait", "default/env1")
    client.run("wait", f"default/env2:{builds[2]}")
    client.run("wait", str(builds[-1]), status=1)


def test_download(client: Client, builds: list[int]) -> None:
    """The command itself fails on `logs`: it has no file name for them."""
    for artifact in ("yaml", "lockfile"):
        client.run("download", f"default/env0:{builds[0]}", "--artifact", artifact)
    exported = client.directory / f"build-{builds[0]}.yaml"
    assert yaml.safe_load(exported.read_text())["name"] == "env0"
    locked = json.loads((client.directory / f"build-{builds[0]}.lock").read_text())
    assert [package["name"] for package in locked["package"]] == ["harmless"]


def test_an_archive_is_downloaded_and_run(client: Client, daemon: Daemon, channel: str) -> None:
    specification = {"name": "tool", "channels": [channel], "dependencies": ["python", "flask"]}
    build_id = daemon.submit(specification)
    daemon.completed(build_id)
    daemon.request("POST", f"/build/{build_id}/artifacts/CONDA_PACK/")
    client.run("wait", str(build_id), "--artifact", "archive", "--interval", "1")
    client.run("download", str(build_id), "--artifact", "archive")
    with tarfile.open(client.directory / f"build-{build_id}.tar.gz") as archive:
        assert "bin/conda-unpack" in archive.getnames()
    # It unpacks where temporary files are, and again only if it has not done so before.
    client.env |= {"TMPDIR": str(client.directory)}
    script = "import flask, sys; print(sys.prefix)"
    shown = client.run("run", f"default/tool:{build_id}", "--", "python", "-c", script)
    assert shown.strip() == str(client.directory / "conda-store" / str(build_id))


def test_solve(client: Client, tiny: str) -> None:
    specification = {"name": "x", "channels": [tiny], "dependencies": ["harmless"]}
    (client.directory / "environment.yaml").write_text(yaml.safe_dump(specification))
    shown = client.run("solve", "environment.yaml")
    assert "harmless" in shown
