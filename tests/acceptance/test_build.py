"""A specification becomes an environment in which Python runs."""

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.acceptance.harness import Daemon


def test_a_posted_specification_becomes_an_environment(shared_daemon: Daemon, channel: str) -> None:
    daemon = shared_daemon
    build_id = daemon.submit(
        {
            "name": "web",
            "channels": [channel],
            "dependencies": ["python", "flask"],
            "variables": {"GREETING": "hello"},
        }
    )
    build = daemon.completed(build_id)

    link = daemon.link("web")
    assert link.is_symlink()
    script = "import flask, sys; print(sys.prefix)"
    printed = subprocess.run(
        [link / "bin" / "python", "-I", "-c", script], check=True, capture_output=True, text=True
    )
    assert printed.stdout.strip() == str(link)
    artifacts = {row["artifact_type"]: row["key"] for row in build["build_artifacts"]}
    assert set(artifacts) == {"DIRECTORY", "LOCKFILE", "LOGS", "YAML"}
    assert os.readlink(link) == artifacts["DIRECTORY"]
    names = {
        row["name"] for row in daemon.request("GET", f"/build/{build_id}/packages/").json()["data"]
    }
    assert {"python", "flask", "click", "jinja2"} <= names
    log = daemon.log(build_id)
    assert log.startswith("starting build of conda environment ")
    assert "Preparing transaction:" in log and "Executing transaction:" in log
    assert daemon.data_of("/environment/default/web/")["current_build_id"] == build_id
    state = json.loads((link / "conda-meta" / "state").read_text())
    assert state["env_vars"] == {"GREETING": "hello"}


def test_F30_a_package_is_deleted_under_a_running_daemon(shared_daemon: Daemon, tiny: str) -> None:
    """Whole, or in part: the next build fetches it, and what is there goes on."""
    daemon = shared_daemon
    wanted = {"name": "thinned", "channels": [tiny], "dependencies": ["harmless"]}
    build_id = daemon.submit(wanted)
    daemon.completed(build_id)
    first = daemon.link("thinned").resolve() / "share/harmless"
    store = daemon.store / ".pkgs/store"
    [entry] = [path for path in store.iterdir() if is_link_to(path / "share/harmless", first)]

    shutil.rmtree(entry)
    daemon.request("POST", f"/build/{build_id}/artifacts/CONDA_PACK/")
    daemon.made(build_id, "CONDA_PACK")
    daemon.completed(daemon.submit(wanted))
    second = daemon.link("thinned").resolve() / "share/harmless"
    assert is_link_to(entry / "share/harmless", second)

    (entry / "share/harmless").unlink()
    build_id = daemon.submit(wanted)
    daemon.completed(build_id)
    third = daemon.link("thinned").resolve() / "share/harmless"
    assert is_link_to(entry / "share/harmless", third)
    assert "share/harmless is missing; it was moved to" in daemon.log(build_id)
    assert "was damaged in the store: share/harmless is missing" in daemon.output.read_text()
    for file in (first, second, third):
        assert file.read_text() == "attacked"
    assert daemon.request("DELETE", "/environment/default/thinned/").status_code == 200


def is_link_to(path: Path, file: Path) -> bool:
    return path.is_file() and path.samefile(file)
