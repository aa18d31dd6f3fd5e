"""A daemon on PostgreSQL, which restarts in every phase of a build."""

import asyncio
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from condastore.faults import STRUCK
from devtools.localchannel.server import ChannelServer, Fault
from devtools.servers import PostgreSQLServer
from tests.acceptance.harness import (
    Daemon,
    assert_becomes_clean,
    eventually,
    get,
    is_clean,
    running,
)
from tests.acceptance.images import assert_every_blob_is_stored, image
from tests.acceptance.oracle import assert_sound, findings
from tests.acceptance.registry import Puller
from tests.acceptance.stories import POINTS
from tests.databases import postgresql_server
from tests.patience import PATIENCE_S, TRIES, pauses

NOT_OF_BUILDS = ("submit.", "remove.", "collect.", "engine.", "upgrade.")
OF_BUILDS = [point for point in POINTS if not point.startswith(NOT_OF_BUILDS)]


@pytest.fixture
def database() -> Iterator[PostgreSQLServer]:
    with postgresql_server() as found:
        yield found


def specification(channel: str, *packages: str) -> dict[str, Any]:
    return {"name": "env", "channels": [channel], "dependencies": list(packages or ["python"])}


def test_F33_a_build_goes_on_while_postgresql_is_away(
    database: PostgreSQLServer, tmp_path: Path, server: ChannelServer
) -> None:
    with running(tmp_path / "data", f"--CondaStore.database_url={database.url()}") as daemon:
        fetched = threading.Event()
        server.faults["*.conda"] = Fault(until=fetched)
        build_id = daemon.submit(specification(server.url))
        daemon.wait_for_event(build_id, "fetch")
        database.kill()
        waiting = daemon.request("GET", f"/build/{build_id}/")
        assert waiting.status_code == 503 and int(waiting.headers["retry-after"]) > 0
        assert waiting.json()["message"] == "the database can't be used now; try again later"
        health = daemon.request("GET", "/health/")
        assert health.status_code == 503 and "database" in health.json()["message"]
        fetched.set()
        database.start()
        daemon.completed(build_id)
        assert daemon.query("SELECT attempts FROM task WHERE kind = 'build'") == [(1,)]
        eventually(lambda: daemon.request("GET", "/health/").status_code == 200)
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


def test_F33_a_restart_of_postgresql_is_survived_wherever_a_build_is(
    database: PostgreSQLServer, tmp_path: Path, server: ChannelServer, tiny: str, index: str
) -> None:
    options = [
        f"--CondaStore.database_url={database.url()}",
        "--CondaStoreWorker.concurrency=1",
        "--CondaStoreWorker.drain_timeout=0",
    ]
    solved = threading.Event()
    server.faults["*repodata*"] = Fault(until=solved)
    with running(tmp_path / "data", *options) as daemon:
        # All are in the queue when the daemon starts that is held wherever it comes to.
        with_pip = {"pip": ["alpha", f"--index-url {index}"]}
        builds = [
            daemon.submit({**specification(server.url), "dependencies": ["python", with_pip]})
        ]
        assert daemon.request("POST", "/namespace/images/").status_code == 200
        artifacts = {"build_artifacts": ["CONDA_PACK", "DOCKER_MANIFEST"]}
        assert daemon.request("PUT", "/setting/images/", json=artifacts).status_code == 200
        for name in ("one", "two"):
            same = {**specification(tiny, "harmless"), "name": name}
            builds.append(daemon.submit(same, namespace="images"))
        daemon.wait_for_event(builds[0], "solve")
        daemon.stop()
        solved.set()
        # Not in its children, who know nothing of a database.
        daemon.start(CONDASTORE_FAULT="[!e]*:*:kill:STOP")
        passed: set[str] = set()
        while (point := held_at(daemon)) is not None:
            if point not in passed:
                database.kill()
            os.kill(daemon.pid, signal.SIGCONT)
            if point not in passed:
                database.start()
            passed.add(point)
        assert sorted(passed) == OF_BUILDS
        for build_id in builds:
            daemon.completed(build_id)
            log = daemon.log(build_id)
            assert len(re.findall(rf"build {build_id} is \w+/\w+ now\n", log)) == 1, log
        for build_id in builds[1:]:
            daemon.made(build_id, "CONDA_PACK")
            daemon.made(build_id, "DOCKER_MANIFEST")
        # The work of none was done twice.
        assert daemon.query("SELECT DISTINCT attempts FROM task WHERE kind = 'build'") == [(1,)]
        assert_every_blob_is_stored(daemon)
        assert_sound(daemon)


def held_at(daemon: Daemon) -> str | None:
    """Waits until a daemon holds at a fault point, and returns which; None if all is done."""
    for _ in pauses():
        if daemon.is_stopped:
            return daemon.output.read_text().rpartition(STRUCK)[2].partition(":")[0]
        if not daemon.query("SELECT id FROM task WHERE state IN ('QUEUED', 'RUNNING')"):
            return None
    raise TimeoutError(f"neither held nor done: {daemon.output.read_text()}")


def test_F34_a_failover_that_loses_the_last_changes_is_found_out_and_mended(
    database: PostgreSQLServer, tmp_path: Path, server: ChannelServer, tiny: str
) -> None:
    fetched = threading.Event()
    server.faults["*.conda"] = Fault(until=fetched)
    with running(tmp_path / "data", f"--CondaStore.database_url={database.url()}") as daemon:
        links = {name: daemon.link(name) for name in ("env", "thinned")}
        wanted = {name: {**specification(tiny, "harmless"), "name": name} for name in links}
        first = {name: daemon.submit(wanted[name]) for name in links}
        for build_id in first.values():
            daemon.completed(build_id)
        before = {name: os.readlink(link) for name, link in links.items()}
        replica = database.replica(database.directory.with_name("replica"))
        # What comes now is lost: builds, one of which runs; an environment; files that went.
        for each in (*wanted.values(), {**specification(tiny, "harmless"), "name": "new"}):
            daemon.completed(daemon.submit(each))
        after = {name: os.readlink(link) for name, link in links.items()}
        daemon.request("DELETE", f"/build/{first['thinned']}/")
        eventually(lambda: daemon.build(first["thinned"])["size"] == 0)
        daemon.wait_for_event(daemon.submit({**specification(server.url), "name": "runs"}), "fetch")
        database.kill()
        replica.start()
        try:
            replica.promote()
            # Each link names files that are there; if possible, those that are current.
            eventually(lambda: os.readlink(links["env"]) == before["env"])
            assert os.readlink(links["thinned"]) == after["thinned"]
            assert "has lost the last 4 changes" in daemon.data_of("/health/")["lost"]
            # It goes on, with numbers of builds that were given before.
            fetched.set()
            server.faults.clear()
            daemon.completed(daemon.submit(wanted["env"]))
            assert os.readlink(links["env"]) not in (before["env"], after["env"])
            eventually(lambda: is_clean(daemon), what=daemon.litter)
            assert daemon.stop() == 0
            assert {each["kind"] for each in findings(daemon, "--repair")} == {
                "files without a build",
                "stored file without a row",
                "log without a build",
                "link of no environment",
                "build without its files",
                "environment link that names the wrong build",
            }
            assert findings(daemon) == []
            daemon.start()
            assert daemon.data_of("/health/")["lost"] is None
            daemon.completed(daemon.submit(wanted["thinned"]))
            assert_sound(daemon)
        finally:
            replica.stop()


async def test_F35_a_request_that_meets_a_deadlock_is_done_again(
    database: PostgreSQLServer, tmp_path: Path, tiny: str
) -> None:
    rival, observer = [await asyncpg.connect(database.url()) for _ in range(2)]
    # The one who has waited so long finds out; that is the daemon, if the rival comes in time.
    await rival.execute("ALTER DATABASE postgres SET deadlock_timeout = '2s'")
    await rival.execute("SET deadlock_timeout = '4s'")
    with running(tmp_path / "data", f"--CondaStore.database_url={database.url()}") as daemon:
        build_id = await asyncio.to_thread(daemon.submit, specification(tiny, "harmless"))
        await asyncio.to_thread(daemon.completed, build_id)
        for number in range(TRIES):
            change = {"json": {"description": f"changed {number}"}}
            request = partial(daemon.request, "PUT", "/environment/default/env/", **change)
            answer = await deadlocked(rival, observer, request)
            assert answer.status_code == 200
            rows = await observer.fetch("SELECT description FROM environment")
            assert [dict(row) for row in rows] == [change["json"]]
            if "deadlock detected" in daemon.output.read_text():
                break
        else:
            raise AssertionError("it was always the rival who found out")
        await assert_conflicts_are_tried_three_times(daemon, observer)
    for connection in (rival, observer):
        await connection.close()


async def assert_conflicts_are_tried_three_times(
    daemon: Daemon, observer: "asyncpg.Connection[Any]"
) -> None:
    """PostgreSQL raises serialization failures: as many as are put up with, then always."""
    await observer.execute("CREATE SEQUENCE tries")
    await observer.execute(
        "CREATE FUNCTION conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('tries') <= TG_ARGV[0]::int THEN RAISE serialization_failure; END IF; "
        "RETURN NEW; END $$"
    )
    for conflicts, status in ((2, 200), (1000, 503)):
        await observer.execute("ALTER SEQUENCE tries RESTART")
        await observer.execute(
            "CREATE OR REPLACE TRIGGER conflict BEFORE UPDATE ON environment "
            f"FOR EACH ROW EXECUTE FUNCTION conflict({conflicts})"
        )
        change = {"json": {"description": f"after {conflicts}"}}
        put = partial(daemon.request, "PUT", "/environment/default/env/", **change)
        answer = await asyncio.to_thread(put)
        assert answer.status_code == status, answer.text
        assert await observer.fetchval("SELECT last_value FROM tries") == 3
        assert await observer.fetchval("SELECT description FROM environment") == "after 2"
    await observer.execute("DROP TRIGGER conflict ON environment")


async def deadlocked(
    rival: "asyncpg.Connection[Any]",
    observer: "asyncpg.Connection[Any]",
    request: Callable[[], httpx.Response],
) -> httpx.Response:
    """Sends a request that changes an environment and notes that, and locks both in between."""
    async with asyncio.timeout(PATIENCE_S), rival.transaction():
        await rival.execute("SELECT FROM environment FOR UPDATE")
        changing = asyncio.create_task(asyncio.to_thread(request))
        while not await observer.fetch("SELECT FROM pg_locks WHERE NOT granted"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        with suppress(asyncpg.DeadlockDetectedError):
            await rival.execute("LOCK TABLE audit_entry IN EXCLUSIVE MODE")
    return await changing


async def test_F36_when_all_connections_are_busy_that_is_told_and_no_fault(
    database: PostgreSQLServer, tmp_path: Path
) -> None:
    options = [f"--CondaStore.database_url={database.url()}", "--CondaStore.database_connections=3"]
    with running(tmp_path / "data", *options) as daemon:
        rival = await asyncpg.connect(database.url())
        asking = partial(get, f"{daemon.url}/api/v1/namespace/")
        async with rival.transaction():
            await rival.execute("LOCK TABLE namespace")
            answers = [asyncio.create_task(asyncio.to_thread(asking)) for _ in range(6)]
            [first, *_], others = await asyncio.wait(
                answers, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
            )
            # It may take longer to answer than a probe waits, on a busy machine.
            is_healthy = partial(daemon.request, "GET", "/health/")
            await asyncio.to_thread(eventually, lambda: is_healthy().status_code == 200)
        await rival.close()
        assert first.result().status_code == 503
        assert int(first.result().headers["retry-after"]) > 0
        # Those that had a connection are answered when they can be.
        assert 200 in [(await answer).status_code for answer in others]


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
