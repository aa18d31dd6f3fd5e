"""A daemon on PostgreSQL, which restarts in every phase of a build."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.localchannel.server import ChannelServer, Fault
from devtools.servers import PostgreSQLServer
from tests.acceptance.harness import assert_becomes_clean, eventually, running
from tests.acceptance.images import assert_every_blob_is_stored, image
from tests.acceptance.registry import Puller
from tests.databases import postgresql_server


@pytest.fixture
def database() -> Iterator[PostgreSQLServer]:
    with postgresql_server() as found:
        yield found


def specification(channel: str, *packages: str) -> dict[str, object]:
    return {"name": "env", "channels": [channel], "dependencies": list(packages or ["python"])}


def test_a_restart_of_postgresql_ends_no_build(
    database: PostgreSQLServer, tmp_path: Path, server: ChannelServer
) -> None:
    with running(tmp_path / "data", f"--CondaStore.database_url={database.url()}") as daemon:
        # F33: while it solves, for which only the daemon waits,
        solved = threading.Event()
        server.faults["*repodata*"] = Fault(until=solved)
        server.faults["*.conda"] = Fault(drip=1_000_000)
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "solve")
        database.kill()
        database.start()
        solved.set()
        # and while it fetches.
        daemon.wait_for_event(build_id, "fetch")
        database.kill()
        waiting = daemon.request("GET", f"/build/{build_id}/")
        assert waiting.status_code == 503 and int(waiting.headers["retry-after"]) > 0
        assert waiting.json()["message"] == "the database can't be used now; try again later"
        health = daemon.request("GET", "/health/")
        assert health.status_code == 503 and "database" in health.json()["message"]
        server.faults.clear()
        database.start()
        daemon.completed(build_id)
        assert daemon.query("SELECT attempts FROM task WHERE kind = 'build'") == [(1,)]
        eventually(lambda: daemon.request("GET", "/health/").status_code == 200)

        # And while it publishes: all of the work is done, and kept.
        daemon.stop()
        daemon.start(CONDASTORE_FAULT="build.stored:1:sleep:3")
        build_id = daemon.submit(specification(server.url))
        log_of_the_end = "export"
        daemon.wait_for_event(build_id, log_of_the_end)
        database.kill()
        database.start()
        daemon.completed(build_id)
        assert daemon.query("SELECT max(attempts) FROM task WHERE kind = 'build'") == [(1,)]
        assert_becomes_clean(daemon)
        assert database.password not in daemon.output.read_text()


def test_i3_the_next_daemon_on_a_directory_does_not_wait_for_the_dead_ones_lease(
    database: PostgreSQLServer, tmp_path: Path, server: ChannelServer
) -> None:
    options = [
        f"--CondaStore.database_url={database.url()}",
        f"--CondaStore.store_directory={tmp_path / 'store'}",
    ]
    with running(tmp_path / "data", *options) as daemon:
        server.faults["*.conda"] = Fault(drip=1_000)
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "fetch")
        # A copy of the directory says the same as the directory, but its owner is alive.
        shutil.copytree(daemon.data, tmp_path / "copy")
        with running(tmp_path / "copy", *options) as other:
            assert "took over" not in other.output.read_text().partition(" serves ")[0]
            running_tasks = "SELECT attempts FROM task WHERE kind = 'build' AND state = 'RUNNING'"
            assert daemon.query(running_tasks) == [(1,)]
            other.kill()

        daemon.kill()
        [[until]] = daemon.query("SELECT max(lease_until) FROM task WHERE state = 'RUNNING'")
        server.faults.clear()
        daemon.start()
        claims = "SELECT attempts, claimed_at FROM task WHERE kind = 'build'"
        eventually(lambda: daemon.query(claims)[0][0] == 2)
        assert daemon.query(claims)[0][1] < until, "the lease had ended before it was claimed"
        daemon.completed(build_id)
        assert_becomes_clean(daemon)


def test_conda_stores_calls_work_on_postgresql(
    database: PostgreSQLServer, tmp_path: Path, tiny: str
) -> None:
    with running(tmp_path / "data", f"--CondaStore.database_url={database.url()}") as daemon:
        builds = [daemon.submit(specification(tiny, "harmless")) for _ in range(3)]
        for build_id in builds:
            daemon.completed(build_id)
        assert {build["id"] for build in daemon.data_of("/build/")} == set(builds)
        environments = daemon.data_of("/environment/?search=en")
        # Several run at once, and the one that ends last is current.
        assert [row["current_build_id"] in builds for row in environments] == [True]
        assert daemon.data_of(f"/build/{builds[0]}/packages/?search=harm")
        assert daemon.request("DELETE", f"/build/{builds[0]}/").status_code == 200
        assert daemon.request("DELETE", "/environment/default/env/").status_code == 200
        eventually(lambda: daemon.data_of("/environment/") == [])
        assert_becomes_clean(daemon)
        assert daemon.data_of("/usage/") is not None
        assert daemon.client.get(f"{daemon.url}/metrics").status_code == 200
        assert daemon.client.get(f"{daemon.url}/celery").status_code == 200


def test_every_form_of_a_build_is_made_and_pulled_on_postgresql(
    database: PostgreSQLServer, tmp_path: Path, tiny: str
) -> None:
    options = [
        f"--CondaStore.database_url={database.url()}",
        f"--CondaStore.conda_default_channels={tiny}",
    ]
    with running(tmp_path / "data", *options) as daemon:
        first, second = (
            daemon.submit({**specification(tiny, "harmless"), "name": name}) for name in "ab"
        )
        daemon.completed(first)
        daemon.completed(second)
        digest = image(daemon, first)
        assert image(daemon, second) == digest
        for artifact in ("CONDA_PACK", "CONSTRUCTOR_INSTALLER"):
            path = f"/build/{first}/artifacts/{artifact}/"
            assert daemon.request("POST", path).status_code == 200
            daemon.made(first, artifact)
            assert daemon.request("GET", path, follow_redirects=True).content
        with Puller(daemon, daemon.token) as puller:
            for name in ("default/a", "default/b"):
                manifest = puller.manifest(name, "latest")
                assert manifest.headers["docker-content-digest"] == digest
                for layer in manifest.json()["layers"]:
                    assert len(puller.blob(name, layer["digest"]).content) == layer["size"]
                # Those of two environments have no log, which is one's.
                assert len(puller.get(f"{name}/referrers/{digest}").json()["manifests"]) == 2
                assert "latest" in puller.get(f"{name}/tags/list").json()["tags"]
            # On demand as well: what the name asks for is built.
            named = "conda-store-dynamic/harmless"
            assert puller.manifest(named, "latest").status_code in (200, 307)
        assert_every_blob_is_stored(daemon)
        eventually(lambda: daemon.query("SELECT count(*) FROM build") == [(3,)])
