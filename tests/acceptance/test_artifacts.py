"""Archives and installers: made after the build, asked for, followed, used elsewhere, removed."""

import hashlib
import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tests.acceptance.harness import (
    BUILD_ARTIFACTS,
    Daemon,
    assert_becomes_clean,
    eventually,
    running,
)
from tests.patience import TRIES

IN_ARCHIVE = "import sys, flask, markupsafe._speedups; print(sys.prefix, 42)"
ARTIFACTS = "/build/{}/artifacts/{}/"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    wanted = [f"{BUILD_ARTIFACTS}={name}" for name in ("LOCKFILE", "YAML", "CONDA_PACK")]
    with running(tmp_path_factory.mktemp("artifacts") / "data", *wanted) as found:
        yield found


@pytest.fixture(scope="module")
def build_id(daemon: Daemon, channel: str) -> int:
    """A build of Python with a compiled module and one with a script of its own."""
    return daemon.submit(
        {"name": "web", "channels": [channel], "dependencies": ["python", "flask"]}
    )


def states(daemon: Daemon, build_id: int) -> dict[str, str]:
    rows = daemon.data_of(f"/build/{build_id}/artifacts/")
    return {row["artifact_type"]: row["state"] for row in rows}


def downloaded(daemon: Daemon, path: str, target: Path) -> Path:
    with daemon.client.stream("GET", f"{daemon.url}/api/v1{path}") as answer:
        assert answer.status_code == 200, answer.read()
        with target.open("wb") as file:
            for data in answer.iter_bytes():
                file.write(data)
        assert target.stat().st_size == int(answer.headers["content-length"])
    return target


def printed(*command: str | Path, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout).strip()


def test_an_archive_comes_with_the_build_and_runs_elsewhere(
    daemon: Daemon, build_id: int, tmp_path: Path
) -> None:
    daemon.completed(build_id)
    made = daemon.made(build_id, "CONDA_PACK")
    archive = downloaded(daemon, f"/build/{build_id}/archive/", tmp_path / "web.tar.gz")
    assert archive.stat().st_size == made["size"]
    printed("gzip", "-t", archive)
    elsewhere = tmp_path / "elsewhere"
    with tarfile.open(archive) as tar:
        tar.extractall(elsewhere, filter="tar")
    printed(elsewhere / "bin/python", elsewhere / "bin/conda-unpack")
    assert printed(elsewhere / "bin/python", "-I", "-c", IN_ARCHIVE) == f"{elsewhere} 42"
    # As conda-pack leaves them, scripts run the Python of the activated environment.
    activated = f". {elsewhere}/bin/activate && flask --version"
    assert "Flask" in printed("bash", "-c", activated)
    key = {a["artifact_type"]: a["key"] for a in daemon.build(build_id)["build_artifacts"]}
    assert key["CONDA_PACK"].startswith("archive/")
    assert key["CONDA_PACK"].endswith("-web.tar.gz")


def test_an_installer_is_made_when_somebody_asks(
    daemon: Daemon, build_id: int, tmp_path: Path
) -> None:
    daemon.completed(build_id)
    absent = daemon.request("GET", f"/build/{build_id}/installer/")
    assert absent.status_code == 400
    assert absent.json()["message"] == f"Build {build_id} doesn't have an installer"
    assert states(daemon, build_id)["CONSTRUCTOR_INSTALLER"] == "ABSENT"
    asked = daemon.request("POST", ARTIFACTS.format(build_id, "constructor_installer"))
    assert asked.status_code == 200, asked.text
    daemon.made(build_id, "CONSTRUCTOR_INSTALLER")
    script = downloaded(daemon, f"/build/{build_id}/installer/", tmp_path / "web.sh")
    target = tmp_path / "installed"
    printed("sh", script, "-b", "-p", target, env={"PATH": os.environ["PATH"]})
    assert printed(target / "bin/python", "-I", "-c", IN_ARCHIVE) == f"{target} 42"


def test_an_archive_can_be_removed_and_made_again_with_the_same_bytes(
    daemon: Daemon, build_id: int, tmp_path: Path
) -> None:
    daemon.completed(build_id)
    size = daemon.made(build_id, "CONDA_PACK")["size"]
    path = f"/build/{build_id}/archive/"
    first = downloaded(daemon, path, tmp_path / "first").read_bytes()
    gone = daemon.request("DELETE", ARTIFACTS.format(build_id, "CONDA_PACK"))
    assert gone.json()["message"] == f"the CONDA_PACK of build {build_id} is gone ({size} bytes)"
    assert daemon.request("GET", path).status_code == 404
    assert states(daemon, build_id)["CONDA_PACK"] == "ABSENT"
    for _ in range(2):
        daemon.request("POST", ARTIFACTS.format(build_id, "CONDA_PACK"))
    daemon.made(build_id, "CONDA_PACK")
    again = downloaded(daemon, path, tmp_path / "again").read_bytes()
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(first).hexdigest()
    assert len(daemon.query("SELECT id FROM task WHERE kind = 'archive'")) == 2


@pytest.mark.parametrize(
    ("artifact", "message"),
    [
        ("YAML", "YAML is made by the build itself"),
        ("nothing", "there is no artifact 'NOTHING'; there are DIRECTORY, LOCKFILE"),
    ],
)
def test_what_cannot_be_made(daemon: Daemon, build_id: int, artifact: str, message: str) -> None:
    for method in ("POST", "DELETE"):
        answer = daemon.request(method, ARTIFACTS.format(build_id, artifact))
        assert answer.status_code == 400
        assert message in answer.json()["message"]
    assert daemon.request("POST", ARTIFACTS.format(10**6, "CONDA_PACK")).status_code == 404


def test_a_build_without_files_has_no_other_forms(daemon: Daemon, tiny: str) -> None:
    build_id = daemon.submit({"name": "x", "channels": [tiny], "dependencies": ["absent"]})
    assert daemon.ended(build_id)["status"] == "FAILED"
    answer = daemon.request("POST", ARTIFACTS.format(build_id, "CONDA_PACK"))
    assert answer.status_code == 400
    assert "has no files (its status is FAILED); rebuild it first" in answer.json()["message"]


def test_deleting_a_build_takes_its_archive_also_while_it_is_made(
    tmp_path: Path, tiny: str
) -> None:
    with running(tmp_path / "data", "--CondaStoreWorker.warm_solvers=0") as daemon:
        specification = {"name": "x", "channels": [tiny], "dependencies": ["harmless"]}
        build_id = daemon.submit(specification)
        daemon.completed(build_id)
        make_and_hold(daemon, build_id)
        assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200
        eventually(lambda: daemon.build(build_id)["size"] == 0)
        assert daemon.query("SELECT state FROM task WHERE kind = 'archive'") == [("CANCELED",)]
        assert not list((daemon.data / "storage" / "archive").glob("*"))
        kept = {row["artifact_type"] for row in daemon.build(build_id)["build_artifacts"]}
        assert kept == {"LOCKFILE", "LOGS", "YAML"}
        assert_becomes_clean(daemon)


def make_and_hold(daemon: Daemon, build_id: int) -> None:
    """Has a build's archive made, by a process that stands still before it is done."""
    assert daemon.processes() == []
    for _ in range(TRIES):
        daemon.request("POST", ARTIFACTS.format(build_id, "CONDA_PACK"))
        eventually(lambda: daemon.processes() or states(daemon, build_id)["CONDA_PACK"] == "READY")
        for process in daemon.processes():
            # It may be too quick for us.
            with suppress(ProcessLookupError):
                os.kill(int(process.split()[0]), signal.SIGSTOP)
        if daemon.processes() and states(daemon, build_id)["CONDA_PACK"] == "RUNNING":
            return
        daemon.request("DELETE", ARTIFACTS.format(build_id, "CONDA_PACK"))
        eventually(lambda: not daemon.processes())
    raise AssertionError("an archive was made too quickly each time")


def test_the_making_of_an_archive_can_be_stopped(tmp_path: Path, channel: str) -> None:
    with running(tmp_path / "data") as daemon:
        specification = {
            "name": "web",
            "channels": [channel],
            "dependencies": ["python", "flask"],
        }
        build_id = daemon.submit(specification)
        daemon.completed(build_id)

        def ends_canceled() -> bool:
            """Whether the making was stopped; it may be too quick for us."""
            daemon.request("POST", ARTIFACTS.format(build_id, "CONDA_PACK"))
            eventually(lambda: states(daemon, build_id)["CONDA_PACK"] in ("RUNNING", "READY"))
            daemon.request("DELETE", ARTIFACTS.format(build_id, "CONDA_PACK"))
            eventually(lambda: states(daemon, build_id).get("CONDA_PACK") != "RUNNING")
            return states(daemon, build_id).get("CONDA_PACK") == "CANCELED"

        assert any(ends_canceled() for _ in range(10))
        assert daemon.build(build_id)["status"] == "COMPLETED"
        assert daemon.request("GET", f"/build/{build_id}/archive/").status_code == 404
        assert_becomes_clean(daemon)


def test_a_full_disk_leaves_no_half_of_an_archive(tmp_path: Path, tiny: str) -> None:
    fault = {"CONDASTORE_FAULT": "artifact.made:1:raise:ENOSPC"}
    options = ["--CondaStoreWorker.max_attempts=1", "--CondaStore.archive_format=tar.zst"]
    with running(tmp_path / "data", *options, **fault) as daemon:
        build_id = daemon.submit({"name": "x", "channels": [tiny], "dependencies": ["harmless"]})
        daemon.completed(build_id)
        daemon.request("POST", ARTIFACTS.format(build_id, "CONDA_PACK"))
        eventually(lambda: states(daemon, build_id)["CONDA_PACK"] == "FAILED")
        rows = daemon.data_of(f"/build/{build_id}/artifacts/")
        error = next(r["error"] for r in rows if r["artifact_type"] == "CONDA_PACK")
        assert "No space left on device" in error
        assert not list((daemon.data / "storage" / "archive").glob("*"))
        assert_becomes_clean(daemon)
        daemon.request("POST", ARTIFACTS.format(build_id, "CONDA_PACK"))
        daemon.made(build_id, "CONDA_PACK")
        archive = daemon.request("GET", f"/build/{build_id}/archive/")
        assert archive.headers["content-type"] == "application/zstd"
        assert f"x-{build_id}.tar.zst" in archive.headers["content-disposition"]
        with (
            zstandard.ZstdDecompressor().stream_reader(archive.content) as plain,
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            assert "share/harmless" in tar.getnames()
