"""Cancelling takes effect within a second in every phase and leaves nothing behind (I14)."""

import random
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.server import ChannelServer, Fault
from tests.acceptance.harness import (
    FOREVER_S,
    Daemon,
    assert_becomes_clean,
    eventually,
    running,
)
from tests.patience import PATIENCE_S, is_quick, soon

SOON_S = 1.0
# Beyond this a busy machine is no excuse.
MOST_S = 8.0


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    # Without idle solvers every process that is there belongs to a build.
    with running(
        tmp_path_factory.mktemp("cancel") / "data",
        "--CondaStoreWorker.warm_solvers=0",
        "--CondaStoreWorker.concurrency=2",
    ) as found:
        yield found


def specification(server: ChannelServer, *packages: str, **fields: Any) -> dict[str, Any]:
    return {
        "name": "halted",
        "channels": [server.url],
        "dependencies": packages or ["python", "flask", "rich"],
        **fields,
    }


def canceled(daemon: Daemon, build_id: int) -> float:
    """Cancels a build; returns how many seconds it took until it was."""
    began = time.monotonic()
    daemon.cancel(build_id)
    assert daemon.ended(build_id)["status"] == "CANCELED"
    return time.monotonic() - began


def cleanly_canceled(daemon: Daemon, build_id: int) -> float:
    """The same; looks at everything that the build may have left."""
    took = canceled(daemon, build_id)
    build = daemon.build(build_id)
    assert build["ended_on"] is not None
    assert "LOGS" in {row["artifact_type"] for row in build["build_artifacts"]}
    log = daemon.log(build_id)
    marker = f"build {build_id} marked as CANCELED due to being canceled from the REST API\n"
    assert log.endswith(marker)
    assert log.count(marker) == 1
    assert not daemon.link("halted").exists()
    assert daemon.prefixes() == []
    eventually(lambda: not daemon.processes(), what=daemon.processes)
    assert_becomes_clean(daemon)
    return took


def test_while_it_waits(daemon: Daemon, server: ChannelServer) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    running_ids = [daemon.submit(specification(server)) for _ in range(2)]
    waiting = daemon.submit(specification(server))
    daemon.cancel(waiting)
    assert daemon.build(waiting)["status"] == "CANCELED"
    assert f"build {waiting} marked as CANCELED" in daemon.log(waiting)
    for build_id in running_ids:
        canceled(daemon, build_id)
    assert_becomes_clean(daemon)


def test_in_the_solve(daemon: Daemon, server: ChannelServer) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)

    def attempt() -> float:
        server.requests.clear()
        build_id = daemon.submit(specification(server))
        eventually(lambda: server.requests)
        return cleanly_canceled(daemon, build_id)

    assert is_quick(attempt, SOON_S, MOST_S)


def test_in_the_fetch(daemon: Daemon, server: ChannelServer) -> None:
    server.faults["*.conda"] = Fault(drip=10_000)

    def attempt() -> float:
        server.requests.clear()
        build_id = daemon.submit(specification(server))
        eventually(lambda: any(path.endswith(".conda") for path in server.requests))
        return cleanly_canceled(daemon, build_id)

    assert is_quick(attempt, SOON_S, MOST_S)


@pytest.mark.parametrize("phase", ["link", "bytecode", "permissions"])
def test_in_the_phases_that_only_work_here(
    daemon: Daemon, server: ChannelServer, phase: str
) -> None:
    # So quick that the cancel may come too late, which must be told as truly.
    for _ in range(30):
        build_id = daemon.submit(specification(server))
        daemon.enters(build_id, phase)
        daemon.cancel(build_id)
        status = daemon.ended(build_id)["status"]
        log = daemon.log(build_id)
        assert ("marked as CANCELED" in log) == (status == "CANCELED")
        assert ("is default/halted now" in log) == (status == "COMPLETED")
        eventually(lambda: not daemon.processes(), what=daemon.processes)
        if status == "CANCELED":
            assert_becomes_clean(daemon)
            return
        delete(daemon, build_id)
    raise AssertionError(f"never in time for {phase}")


def test_in_pip(daemon: Daemon, server: ChannelServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        pip = {"pip": ["alpha", f"--index-url {index}"]}
        wanted = specification(server)
        silent.settimeout(3 * PATIENCE_S)

        def attempt() -> float:
            build_id = daemon.submit({**wanted, "dependencies": ["python", pip]})
            connection, _ = silent.accept()
            with connection:
                return cleanly_canceled(daemon, build_id)

        assert is_quick(attempt, SOON_S, MOST_S)


def test_at_any_moment(daemon: Daemon, server: ChannelServer) -> None:
    numbers, took = random.Random(11), []
    for turn in range(25):
        build_id = daemon.submit(specification(server, "click"))
        time.sleep(numbers.choice([0, 0.002, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5]) * numbers.random())
        began = time.monotonic()
        daemon.cancel(build_id)
        status = daemon.ended(build_id)["status"]
        took.append(time.monotonic() - began)
        assert status in ("CANCELED", "COMPLETED"), turn
        log = daemon.log(build_id)
        assert log.count("marked as CANCELED") == (status == "CANCELED"), log
        if status == "COMPLETED":
            delete(daemon, build_id)
    assert statistics.median(took) < soon(SOON_S, MOST_S)
    eventually(lambda: not daemon.processes(), what=daemon.processes)
    assert_becomes_clean(daemon)


def delete(daemon: Daemon, build_id: int) -> None:
    assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200
    eventually(lambda: daemon.build(build_id)["size"] == 0)


def test_the_same_specification_builds_afterwards(daemon: Daemon, server: ChannelServer) -> None:
    build = daemon.completed(daemon.submit(specification(server)))
    assert (daemon.link("halted") / "bin" / "flask").exists()
    assert build["status_info"] is None


def test_deleting_an_environment_cancels_what_builds_for_it(
    tmp_path: Path, server: ChannelServer
) -> None:
    with running(tmp_path / "data", "--CondaStoreWorker.warm_solvers=0") as daemon:
        server.faults["*repodata*"] = Fault(delay=FOREVER_S)
        build_id = daemon.submit(specification(server))
        eventually(lambda: server.requests)
        assert daemon.request("DELETE", "/environment/default/halted/").status_code == 200
        path = f"/build/{build_id}/"
        eventually(lambda: daemon.request("GET", path).status_code == 404)
        assert daemon.request("GET", "/environment/default/halted/").status_code == 404
        assert daemon.prefixes() == []
        eventually(lambda: not daemon.processes(), what=daemon.processes)
        assert_becomes_clean(daemon)
