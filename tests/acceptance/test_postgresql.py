"""A daemon on PostgreSQL, which restarts in every phase of a build."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.localchannel.server import ChannelServer, Fault
from devtools.servers import PostgreSQLServer
from tests.acceptance.harness import assert_becomes_clean, eventually, running
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
        server.faults["*.conda"] = Fault(drip=1_000_000)
        build_id = daemon.submit(specification(server.url))
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
