"""The wall clock jumps, and the machine sleeps, while a daemon works (F47, F48)."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedOK

from devtools.localchannel.server import Fault, serve
from tests.acceptance.clocks import DAY_S, LIBRARY, Clock
from tests.acceptance.harness import Daemon, eventually, running
from tests.acceptance.oracle import assert_sound
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(
    LIBRARY is None, reason="there is no libfaketime on this machine to set its clock with"
)

HOUR_S = 3600.0
END_OF_SUMMER_TIME = datetime(2027, 10, 31, 1, tzinfo=UTC).timestamp()

JUMPS: dict[str, Callable[[Clock], None]] = {
    "a day on": lambda clock: clock.put(DAY_S),
    "a day back": lambda clock: clock.put(-DAY_S),
    "1970": lambda clock: clock.put_at(1000),
}


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "ahead")


@pytest.fixture(scope="module")
def shared(clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    data = tmp_path_factory.mktemp("time") / "data"
    with running(data, "--CondaStoreWorker.concurrency=1", **clock.environment) as daemon:
        yield daemon
        clock.put(0)
        assert_sound(daemon)


@pytest.fixture
def daemon(clock: Clock, shared: Daemon) -> Iterator[Daemon]:
    """One whose clock is right again afterwards."""
    yield shared
    clock.put(0)


def wanted(channel: str, name: str) -> dict[str, Any]:
    return {"name": name, "channels": [channel], "dependencies": ["harmless"]}


@contextmanager
def at_work(daemon: Daemon, directory: Path) -> Iterator[list[int]]:
    """One build that runs and one that waits for it; at the end both must succeed."""
    go_on = threading.Event()
    with serve(directory, faults={"*repodata*": Fault(until=go_on)}) as server:
        builds = [daemon.submit(wanted(server.url, name)) for name in ("running", "waiting")]
        with daemon.socket(builds[0]) as log:
            eventually(lambda: server.requests)
            yield builds
            go_on.set()
            for build_id in builds:
                daemon.completed(build_id)
            assert_whole(daemon, builds[0], log)


def assert_whole(daemon: Daemon, build_id: int, log: Any) -> None:
    """Whoever listened all the time has heard everything, once (I8)."""
    text = ""
    with pytest.raises(ConnectionClosedOK):
        while True:
            text += json.loads(log.recv(timeout=PATIENCE_S)).get("text", "")
    assert text == daemon.log(build_id)


def assert_time_runs_forward(daemon: Daemon) -> None:
    for build in daemon.data_of("/build/?size=100"):
        times = [build[key] for key in ("scheduled_on", "started_on", "ended_on") if build[key]]
        assert all(first <= second for first, second in pairwise(times)), build


def token(daemon: Daemon, lasts_s: float) -> str:
    expiration = datetime.now(UTC) + timedelta(seconds=lasts_s)
    answer = daemon.request("POST", "/token/", json={"expiration": expiration.isoformat()})
    found: str = answer.json()["data"]["token"]
    return found


def is_good(daemon: Daemon, text: str) -> bool:
    answer = httpx.get(
        f"{daemon.url}/api/v1/permission/",
        headers={"Authorization": f"Bearer {text}"},
        timeout=PATIENCE_S,
    )
    authenticated: bool = answer.json()["data"]["authenticated"]
    return authenticated


def test_F47_nothing_is_removed_for_an_age_that_a_jump_gave_it(
    daemon: Daemon, clock: Clock, tiny: str
) -> None:
    daemon.completed(daemon.submit(wanted(tiny, "removed")))
    blob = daemon.data / "storage/blobs/sha256/ab" / ("ab" * 32)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_text("what a database that was restored may want back")

    [(last,)] = daemon.query("SELECT max(id) FROM task")

    clock.put(15 * DAY_S)

    assert daemon.request("DELETE", "/environment/default/removed/").status_code == 200
    collected = (
        f"SELECT id FROM task WHERE kind = 'collect_blobs' AND state = 'DONE' AND id > {last}"
    )
    eventually(lambda: daemon.query(collected))
    assert blob.exists()
    assert "the clock was put forward by 12960" in daemon.output.read_text()
    blob.unlink()


@pytest.mark.parametrize("jump", JUMPS)
def test_F47_the_wall_clock_jumps(
    daemon: Daemon, clock: Clock, hostile_directory: Path, tiny: str, jump: str
) -> None:
    before = daemon.completed(daemon.submit(wanted(tiny, "before")))["id"]
    short, long = token(daemon, HOUR_S), token(daemon, 3650 * DAY_S)
    with at_work(daemon, hostile_directory) as builds:
        JUMPS[jump](clock)
        meanwhile = daemon.submit(wanted(tiny, "meanwhile"))
        assert is_good(daemon, long)
        assert is_good(daemon, short) == (jump in ("a day back", "1970"))
        # Tokens that have ended are forgotten when there is a new one.
        assert is_good(daemon, token(daemon, 3650 * DAY_S))
    daemon.completed(meanwhile)
    assert daemon.data_of("/build/?size=100&status=QUEUED") == []
    assert_time_runs_forward(daemon)
    for build_id in (*builds, meanwhile):
        page = daemon.client.get(f"{daemon.url}/ui/build/{build_id}/")
        assert page.status_code == 200
        assert "Took " in page.text

    clock.put(0)

    daemon.completed(daemon.submit(wanted(tiny, "after")))
    assert_time_runs_forward(daemon)
    assert is_good(daemon, short)
    assert is_good(daemon, long)
    assert daemon.log(before).endswith("\n")


def test_F48_the_machine_sleeps_for_hours(
    daemon: Daemon, clock: Clock, hostile_directory: Path
) -> None:
    """And an hour of local time comes twice meanwhile.

    Stopped processes see what those of a machine that slept do: the wall clock alone went on.
    """
    clock.put_at(END_OF_SUMMER_TIME - HOUR_S)
    with at_work(daemon, hostile_directory) as builds:
        pids = [daemon.pid, *(int(line.split()[0]) for line in daemon.processes())]
        assert len(pids) > 1
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        clock.put_at(END_OF_SUMMER_TIME + 4 * HOUR_S)
        time.sleep(0.2)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        assert daemon.build(builds[0])["status"] == "BUILDING"
        assert daemon.client.get(f"{daemon.url}/api/v1/health/").status_code == 200
    assert_time_runs_forward(daemon)
    assert daemon.query("SELECT max(attempts) FROM task") == [(1,)]
    assert "it took too long" not in daemon.output.read_text()
