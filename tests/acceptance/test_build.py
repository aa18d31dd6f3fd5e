"""A specification becomes an environment in which Python runs."""

import json
import os
import subprocess

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
