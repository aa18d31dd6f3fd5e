"""Whatever kills the daemon, whenever: nothing half-done is seen or left (I1-I4, faults A)."""

import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from condastore.errors import ConfigurationError, NotYet
from devtools.localchannel.server import ChannelServer, Fault, serve
from tests.acceptance.harness import (
    FOREVER_S,
    Daemon,
    DaemonDied,
    assert_becomes_clean,
    eventually,
    get,
    running,
)
from tests.acceptance.oracle import assert_sound
from tests.acceptance.stories import (
    POINTS,
    REMOVED,
    WITH_PYTHON,
    assert_nothing_half_built_is_visible,
    dies,
    specification,
    stopped,
)
from tests.patience import PATIENCE_S, is_quick

OF_SUBMISSIONS = {"submit.written": 0, "submit.committed": 1}
OF_BUILDS = [point for point in POINTS if point.startswith(("build.", "engine.", "phase."))]
OF_REMOVALS = [point for point in POINTS if point.startswith("remove.")]
OF_ARTIFACTS = [point for point in POINTS if point.startswith("artifact.")]


def assert_finished(daemon: Daemon, build_id: int) -> None:
    """Waits for a build that survived, and looks at everything that it made."""
    build = daemon.completed(build_id)
    assert build["status_info"] is None
    artifacts = {row["artifact_type"]: row["key"] for row in build["build_artifacts"]}
    assert sorted(artifacts) == ["DIRECTORY", "LOCKFILE", "LOGS", "YAML"]
    assert os.readlink(daemon.link("survivor")) == artifacts["DIRECTORY"]
    assert [str(path) for path in daemon.prefixes()] == [artifacts["DIRECTORY"]]
    assert daemon.data_of("/environment/default/survivor/")["current_build_id"] == build_id
    log = daemon.log(build_id)
    assert log.endswith("\n")
    assert "\n\n" not in log
    assert log.count("starting build of conda environment") >= 1
    eventually(lambda: not list((daemon.data / "logs").iterdir()))
    assert (daemon.data / "storage" / artifacts["LOGS"]).read_text() == daemon.log(build_id)
    assert_becomes_clean(daemon)


@pytest.mark.parametrize("point", OF_BUILDS)
def test_a_build_survives_a_kill_at(
    tmp_path: Path, channel: str, tiny: str, index: str, point: str
) -> None:
    with_python = point in WITH_PYTHON
    wanted = specification(channel) if with_python else specification(tiny, "harmless")
    if point in ("phase.pip", "engine.pip_installed"):
        wanted["dependencies"] = ["python", {"pip": ["alpha", f"--index-url {index}"]}]
    with stopped(tmp_path / "data") as daemon:
        daemon.start(CONDASTORE_FAULT=f"{point}:1:kill")
        build_id = daemon.submit(wanted)
        dies(daemon)
        assert_nothing_half_built_is_visible(daemon)

        daemon.start()

        # The first answer already tells the truth: what says BUILDING builds.
        assert daemon.build(build_id)["status"] in ("QUEUED", "BUILDING", "COMPLETED")
        assert_finished(daemon, build_id)
        prefix = daemon.link("survivor")
        if with_python:
            run = subprocess.run([prefix / "bin/python", "-c", "print(6 * 7)"], capture_output=True)
            assert run.stdout == b"42\n"
        else:
            assert (prefix / "share/harmless").read_text() == "attacked"
        assert_sound(daemon)


@pytest.mark.parametrize("seed", range(4))
def test_a_build_survives_a_kill_at_a_random_moment(
    tmp_path: Path, channel: str, seed: int
) -> None:
    numbers = random.Random(seed)
    with stopped(tmp_path / "data") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(channel, "flask"))
        time.sleep(numbers.random() * 1.2)
        daemon.kill()
        eventually(lambda: not daemon.processes(), what=daemon.processes)
        assert_nothing_half_built_is_visible(daemon)
        daemon.start()
        assert daemon.build(build_id)["status"] in ("QUEUED", "BUILDING", "COMPLETED")
        assert_finished(daemon, build_id)
        assert_sound(daemon)


def test_an_answer_is_a_promise(tmp_path: Path, tiny: str) -> None:
    with stopped(tmp_path / "data") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(tiny, "harmless"))
        daemon.kill()
        daemon.start()
        daemon.completed(build_id)
        answer = daemon.request("PUT", "/environment/default/survivor/", json={"description": "x"})
        assert answer.status_code == 200
        assert daemon.request("POST", "/namespace/kept/").status_code == 200
        daemon.kill()
        daemon.start()
        assert daemon.request("GET", "/namespace/kept/").status_code == 200
        assert daemon.data_of("/environment/default/survivor/")["description"] == "x"


@pytest.mark.parametrize(("point", "builds"), OF_SUBMISSIONS.items())
def test_F01_F02_a_build_whose_submission_dies_is_whole_or_not_there(
    tmp_path: Path, tiny: str, point: str, builds: int
) -> None:
    wanted = specification(tiny, "harmless")
    with stopped(tmp_path / "data") as daemon:
        daemon.start(CONDASTORE_FAULT=f"{point}:1:kill")
        with pytest.raises(httpx.TransportError):
            daemon.submit(wanted)
        dies(daemon)
        for table in ("build", "environment", "specification", "task WHERE kind = 'build'"):
            assert daemon.query(f"SELECT count(*) FROM {table}") == [(builds,)], table

        daemon.start()

        found = [build["id"] for build in daemon.data_of("/build/")]
        assert len(found) == builds
        for build_id in found:
            daemon.completed(build_id)
        # Whoever asks again gets a build of his own.
        again = daemon.submit(wanted)
        daemon.completed(again)
        assert {build["id"] for build in daemon.data_of("/build/")} == {*found, again}
        assert_sound(daemon)


def test_every_fault_point_has_a_test() -> None:
    tested_here = [*OF_SUBMISSIONS, *OF_BUILDS, *OF_REMOVALS, *OF_ARTIFACTS]
    # These are in test_images.py, test_registry_storage.py and test_upgrade.py.
    there = ("image.", "collect.", "upgrade.")
    tested_there = [point for point in POINTS if point.startswith(there)]
    assert sorted(tested_here + tested_there) == POINTS


@pytest.mark.parametrize("point", OF_ARTIFACTS)
def test_an_archive_survives_a_kill_at(tmp_path: Path, tiny: str, point: str) -> None:
    with stopped(tmp_path / "data") as daemon:
        daemon.start(CONDASTORE_FAULT=f"{point}:1:kill")
        build_id = daemon.submit(specification(tiny, "harmless"))
        daemon.completed(build_id)
        daemon.request("POST", f"/build/{build_id}/artifacts/CONDA_PACK/")
        dies(daemon)
        daemon.start()
        daemon.made(build_id, "CONDA_PACK")
        assert daemon.request("GET", f"/build/{build_id}/archive/").status_code == 200
        assert_sound(daemon)


def test_F20_a_build_that_kills_the_daemon_twice_is_given_up_alone(
    tmp_path: Path, tiny: str, hostile_directory: Path
) -> None:
    """Not so the one beside it, which was started first and would be ready last."""
    with (
        serve(hostile_directory, faults={"*repodata*": Fault(delay=FOREVER_S)}) as server,
        stopped(tmp_path / "data", "--CondaStoreWorker.concurrency=2") as daemon,
    ):
        # Its artifacts are stored by then, and it is not recorded.
        daemon.start(CONDASTORE_FAULT="build.stored:1:kill")
        beside = daemon.submit(specification(server.url, "harmless"))
        daemon.wait_for_event(beside, "solve")
        killer = daemon.submit(specification(tiny, "harmless"))
        dies(daemon)
        assert len(daemon.prefixes()) == 1
        server.faults.clear()
        # Were they to run together, the killer would pass it first, and the other one second.
        daemon.start(CONDASTORE_FAULT="build.stored:2:kill")
        dies(daemon)

        daemon.start()

        build = daemon.build(killer)
        assert build["status"] == "FAILED"
        assert "the daemon died twice" in build["status_info"]
        assert daemon.log(killer).endswith(f"build failed: {build['status_info']}\n")
        assert_finished(daemon, beside)
        daemon.completed(daemon.submit(specification(tiny, "harmless")))
        assert_sound(daemon)


def test_a_cancel_survives_a_kill(tmp_path: Path, server: ChannelServer) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    with stopped(tmp_path / "data") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(server.url))
        eventually(lambda: server.requests)
        os.kill(daemon.pid, signal.SIGSTOP)
        # As if the daemon died between the request's commit and its effect.
        daemon.query("UPDATE task SET cancel_requested = true")
        daemon.kill()

        daemon.start()

        assert daemon.build(build_id)["status"] == "CANCELED"
        assert f"build {build_id} marked as CANCELED" in daemon.log(build_id)
        assert_sound(daemon)


@pytest.mark.parametrize(
    ("point", "what"),
    # Only a whole environment has rows that go when its files are gone.
    [(p, w) for p in OF_REMOVALS for w in REMOVED if (p, w) != ("remove.files_gone", "build")],
)
def test_a_removal_survives_a_kill_at(tmp_path: Path, tiny: str, point: str, what: str) -> None:
    with stopped(tmp_path / "data") as daemon:
        daemon.start(CONDASTORE_FAULT=f"{point}:1:kill")
        build_id = daemon.submit(specification(tiny, "harmless"))
        daemon.completed(build_id)
        paths = {
            "build": f"/build/{build_id}/",
            "environment": "/environment/default/survivor/",
            "namespace": "/namespace/default/",
        }
        assert daemon.request("DELETE", paths[what]).status_code == 200
        dies(daemon)

        daemon.start()

        if what == "build":
            eventually(lambda: daemon.build(build_id)["size"] == 0)
            artifacts = daemon.build(build_id)["build_artifacts"]
            assert {row["artifact_type"] for row in artifacts} == {"LOCKFILE", "LOGS", "YAML"}
        else:
            eventually(lambda: daemon.request("GET", f"/build/{build_id}/").status_code == 404)
            eventually(lambda: not daemon.query("SELECT id FROM environment"))
            # A daemon that writes there has a lock that says so.
            files = [path for path in (daemon.data / "storage").rglob("*") if path.is_file()]
            assert [path for path in files if path.name != "lock"] == []
        assert daemon.prefixes() == []
        assert not daemon.link("survivor").is_symlink()
        assert_sound(daemon)


def test_a_removal_that_fails_is_tried_again(tmp_path: Path, tiny: str) -> None:
    fault = {"CONDASTORE_FAULT": "remove.discarded:1:raise:EIO"}
    with running(tmp_path / "data", **fault) as daemon:
        daemon.completed(daemon.submit(specification(tiny, "harmless")))
        daemon.request("DELETE", "/environment/default/survivor/")
        eventually(lambda: not daemon.query("SELECT id FROM environment"))
        assert_becomes_clean(daemon)


@pytest.mark.parametrize("what", REMOVED)
def test_a_removal_that_was_given_up_is_taken_up_by_the_next_daemon(
    tmp_path: Path, tiny: str, what: str
) -> None:
    with stopped(tmp_path / "data", "--CondaStoreWorker.max_attempts=1") as daemon:
        daemon.start(CONDASTORE_FAULT="remove.discarded:1:raise:EIO")
        build_id = daemon.submit(specification(tiny, "harmless"))
        daemon.completed(build_id)
        paths = {
            "build": f"/build/{build_id}/",
            "environment": "/environment/default/survivor/",
            "namespace": "/namespace/default/",
        }
        assert daemon.request("DELETE", paths[what]).status_code == 200
        eventually(lambda: daemon.query("SELECT id FROM task WHERE state = 'FAILED'"))
        daemon.kill()
        daemon.start()
        if what == "build":
            eventually(lambda: daemon.build(build_id)["size"] == 0)
        else:
            eventually(lambda: daemon.request("GET", f"/build/{build_id}/").status_code == 404)
        assert_sound(daemon)


def test_children_die_with_the_daemon(tmp_path: Path, server: ChannelServer) -> None:
    server.faults["*.conda"] = Fault(drip=10_000)
    with stopped(tmp_path / "data") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "fetch")
        # The warm solver and the build's own child.
        assert len(daemon.processes()) >= 2
        daemon.kill()
        eventually(lambda: not daemon.processes(), what=daemon.processes)
        server.faults.clear()
        daemon.start()
        assert_finished(daemon, build_id)


def test_a_child_that_is_killed_fails_its_build_only(tmp_path: Path, server: ChannelServer) -> None:
    """F17"""
    server.faults["*.conda"] = Fault(drip=10_000)
    with running(tmp_path / "data", "--CondaStoreWorker.warm_solvers=0") as daemon:
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "fetch")
        eventually(lambda: len(daemon.processes()) == 1, what=daemon.processes)
        (child,) = daemon.processes()
        os.kill(int(child.split()[0]), signal.SIGKILL)
        build = daemon.ended(build_id)
        assert build["status"] == "FAILED"
        assert "SIGKILL" in build["status_info"]
        assert re.search(r"out of memory \(limit \d+\.\d GB\)", build["status_info"])
        assert_becomes_clean(daemon)
        server.faults.clear()
        daemon.completed(daemon.submit(specification(server.url)))


def test_a_warm_solver_that_died_is_not_missed(daemon: Daemon, tiny: str) -> None:
    daemon.completed(daemon.submit(specification(tiny, "harmless")))
    for child in daemon.processes():
        os.kill(int(child.split()[0]), signal.SIGKILL)
    eventually(lambda: not daemon.processes(), what=daemon.processes)
    daemon.completed(daemon.submit(specification(tiny, "harmless")))


@pytest.mark.sqlite
def test_a_database_that_is_locked_for_long_ends_nothing(daemon: Daemon, tiny: str) -> None:
    """As a backup tool does (F37); longer than the daemon waits for a lock."""
    daemon.completed(daemon.submit(specification(tiny, "harmless")))
    for _ in range(30):
        build_id = daemon.submit(specification(tiny, "harmless"))
        # It may be too quick for us.
        if daemon.enters(build_id, "link"):
            break
    with closing(sqlite3.connect(daemon.data / "condastore.sqlite", timeout=30)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(12)
        connection.rollback()
    daemon.completed(build_id)
    daemon.completed(daemon.submit(specification(tiny, "harmless")))
    assert_becomes_clean(daemon)


# Stopping


def test_sigterm_with_nothing_to_do(daemon: Daemon, tiny: str) -> None:
    daemon.completed(daemon.submit(specification(tiny, "harmless")))

    def attempt() -> float:
        if daemon.process is None or daemon.process.poll() is not None:
            daemon.start()
        began = time.monotonic()
        assert daemon.stop() == 0
        return time.monotonic() - began

    assert is_quick(attempt, 2, 10)
    assert "Traceback" not in daemon.output.read_text()
    assert daemon.processes() == []


def test_sigterm_lets_a_build_finish(tmp_path: Path, server: ChannelServer) -> None:
    go_on = threading.Event()
    server.faults["*repodata*"] = Fault(until=go_on)
    with stopped(tmp_path / "data") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "solve")
        later = daemon.submit(specification(server.url))
        assert is_ready(daemon)
        os.kill(daemon.pid, signal.SIGTERM)
        # Whoever looks sends his requests elsewhere, while it works on.
        eventually(lambda: not is_ready(daemon))
        assert daemon.query(f"SELECT status FROM build WHERE id = {build_id}") == [("BUILDING",)]
        go_on.set()
        assert daemon.wait() == 0
        statuses = dict(daemon.query("SELECT id, status FROM build"))
        assert statuses[build_id] == "COMPLETED"
        daemon.start()
        daemon.completed(later)


def is_ready(daemon: Daemon) -> bool:
    """Whether a daemon takes new connections and says that it can work."""
    try:
        return get(f"{daemon.url}/api/v1/health/").status_code == 200
    except httpx.ConnectError:
        return False


def test_sigterm_puts_a_long_build_back_into_the_queue(
    tmp_path: Path, server: ChannelServer
) -> None:
    server.faults["*.conda"] = Fault(drip=10_000)
    with stopped(tmp_path / "data", "--CondaStoreWorker.drain_timeout=0.5") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "fetch")
        follower = subprocess.Popen(
            ["curl", "-sN", f"{daemon.url}/api/v1/build/{build_id}/logs/?follow=1"],
            stdout=subprocess.PIPE,
        )
        assert daemon.stop() == 0
        follower.communicate(timeout=PATIENCE_S)
        assert daemon.processes() == []
        assert daemon.query("SELECT status, started_on FROM build") == [("QUEUED", None)]
        # It was not the build's fault, so this attempt does not count.
        assert daemon.query("SELECT state, attempts FROM task WHERE kind='build'") == [
            ("QUEUED", 0)
        ]
        server.faults.clear()
        daemon.start()
        assert_finished(daemon, build_id)
        text = daemon.log(build_id)
        assert "\nthe daemon stops; this build goes back to the queue\n" in text


def test_a_second_sigint_stops_at_once(tmp_path: Path, server: ChannelServer) -> None:
    server.faults["*.conda"] = Fault(drip=10_000)
    with stopped(tmp_path / "data") as daemon:
        daemon.start()
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "fetch")
        os.kill(daemon.pid, signal.SIGINT)
        time.sleep(0.5)
        assert daemon.process is not None
        assert daemon.process.poll() is None
        os.kill(daemon.pid, signal.SIGINT)
        assert daemon.wait() == 130
        eventually(lambda: not daemon.processes(), what=daemon.processes)
        server.faults.clear()
        daemon.start()
        assert_finished(daemon, build_id)


# Refusing to start


def refusal(data: Path, *arguments: str) -> str:
    """Returns the one sentence with which a daemon refuses to start."""
    daemon = Daemon(data, *arguments)
    with pytest.raises(DaemonDied) as died:
        daemon.start()
    assert daemon.process is not None
    assert daemon.process.returncode in (ConfigurationError.exit_status, NotYet.exit_status)
    text = str(died.value)
    assert "Traceback" not in text
    # On a busy machine its event loop is held up, which it tells with a stack.
    told = re.compile(r"    |.* INFO |.* WARNING condastore\.stalls: ")
    lines = [line for line in text.splitlines() if not told.match(line)]
    assert len(lines) == 1, text
    assert lines[0].startswith("condastore: ")
    daemon.client.close()
    return lines[0]


def test_a_second_daemon_on_the_same_directories_is_refused(tmp_path: Path, tiny: str) -> None:
    with running(tmp_path / "data") as daemon:
        same = refusal(tmp_path / "data")
        assert f"another condastore (process {daemon.pid}) uses {tmp_path}/data" in same
        if daemon.database_url.startswith("sqlite:"):
            # On PostgreSQL daemons may share one.
            store = f"--CondaStore.store_directory={daemon.store}"
            assert "another condastore" in refusal(tmp_path / "other", store)
        # The first is none the worse for it.
        daemon.completed(daemon.submit(specification(tiny, "harmless")))


def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        sentence = refusal(tmp_path / "data", f"--CondaStoreServer.port={port}")
    assert f"port {port} on 127.0.0.1 can't be used: Address already in use" in sentence


def test_an_address_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    refused = refusal(tmp_path / "data", "--CondaStoreServer.address=192.0.2.1")
    assert "port 0 on 192.0.2.1 can't be used" in refused


def test_other_addresses_than_loopback_are_served_for_any_name(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--CondaStoreServer.address=0.0.0.0") as daemon:
        url = daemon.url.replace("0.0.0.0", "127.0.0.1")
        for host in ("store.example", "localhost"):
            answer = daemon.client.get(f"{url}/api/v1/", headers={"Host": host})
            assert answer.status_code == 200


def test_a_configuration_file_must_be_there_and_make_sense(tmp_path: Path) -> None:
    missing = tmp_path / "missing.py"
    assert "there is no such file" in refusal(tmp_path / "data", f"--config={missing}")
    broken = tmp_path / "broken.py"
    broken.write_text("c.CondaStore.default_namespace = (\n")
    sentence = refusal(tmp_path / "data", f"--config={broken}")
    assert str(broken) in sentence
    assert "line 1" in sentence
    wrong = tmp_path / "wrong.py"
    wrong.write_text("c.CondaStore.max_log_bytes = 'many'\n")
    assert "max_log_bytes" in refusal(tmp_path / "data", f"--config={wrong}")


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with running(tmp_path / "data") as daemon:
        pass
    daemon.query("UPDATE alembic_version SET version_num = '9999'")
    sentence = refusal(tmp_path / "data")
    assert "newer than this program: install the condastore that wrote it, or restore" in sentence


@pytest.mark.sqlite
def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "condastore.sqlite").write_text("not a database" * 100)
    assert "file is not a database" in refusal(tmp_path / "data")


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_text("0" * 64)
    (tmp_path / "data" / "secret").chmod(0o644)
    assert "can be read by others" in refusal(tmp_path / "data")


def test_the_secret_is_kept(tmp_path: Path) -> None:
    with running(tmp_path / "data") as daemon:
        token = daemon.token
        assert (daemon.data / "secret").stat().st_mode & 0o777 == 0o600
    with running(tmp_path / "data") as daemon:
        assert daemon.token == token
    printed = subprocess.run(
        [sys.executable, "-m", "condastore", "token", f"--data={tmp_path / 'data'}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout == f"{token}\n"
