"""The unit under a real systemd: what the documentation promises of it."""

import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devtools.localchannel.server import serve
from devtools.machine import Machine, NoMachine
from tests.acceptance.harness import eventually, get
from tests.acceptance.installed import CONFIG, Service, documented

pytestmark = pytest.mark.sqlite

MADE = ("CONDA_PACK", "CONSTRUCTOR_INSTALLER", "DOCKER_MANIFEST")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, which is active."""
    scratch = tmp_path_factory.mktemp("machine") / "scratch"
    scratch.mkdir()
    machine = Machine(scratch)
    try:
        machine.boot()
    except NoMachine as error:
        pytest.skip(str(error))
    try:
        found = Service(machine)
        found.install()
        yield found
        found.daemon.client.close()
    finally:
        machine.close()


@pytest.fixture
def silence() -> Iterator[str]:
    """The URL of a channel that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/channel"


@pytest.fixture
def building(service: Service, silence: str) -> Iterator[None]:
    """A build that does not end by itself, and one that waits for it."""
    names = ("first", "second")
    found = [
        service.daemon.submit({"name": name, "channels": [silence], "dependencies": ["x"]})
        for name in names
    ]
    service.becomes("StatusText", "1 building, 1 queued")
    yield
    for build in found:
        service.daemon.cancel(build)
    service.becomes("StatusText", "0 building, 0 queued")


def said(service: Service, kind: str, number: object) -> list[str]:
    """Returns what the journal has of a build or a request."""
    lines = service.journal(f"CONDASTORE_{kind}_ID={number}", "--output=json").splitlines()
    return [json.loads(line)["MESSAGE"] for line in lines]


def mode_of(service: Service, path: str) -> str:
    return service.machine.run("stat", "--format=%a %U %G", path)


def test_a_service_that_is_installed_as_documented(service: Service) -> None:
    assert service.shows("ActiveState") == "active"
    service.becomes("StatusText", "0 building, 0 queued")
    assert mode_of(service, "/var/lib/condastore") == "755 condastore condastore"
    assert mode_of(service, "/var/lib/condastore/secret") == "600 condastore condastore"
    for kind in ("cache", "log"):
        assert mode_of(service, f"/var/{kind}/condastore") == "755 condastore condastore"
    assert mode_of(service, "/etc/condastore") == "750 root condastore"
    # systemd had nothing to say of the unit, and the daemon keeps its token to itself.
    assert service.journal("-p", "warning") == "-- No entries --"
    token = service.daemon.client.headers["Authorization"].split()[1]
    assert service.daemon.data_of("/permission/")["authenticated"] is True
    assert token not in service.journal()


def test_all_that_a_build_is_can_be_made_in_the_service(
    service: Service, small_channel: Path, hostile_directory: Path, index: str
) -> None:
    daemon = service.daemon
    service.configure(f"c.CondaStore.pip_index_url = {index!r}\n")
    service.do("reload")
    with serve(small_channel) as server:
        answer = daemon.post(
            {
                "name": "web",
                "channels": [server.url],
                "dependencies": ["python", "pip", "click", {"pip": ["alpha"]}],
            }
        )
        build = answer.json()["data"]["build_id"]
        daemon.completed(build)
    with serve(hostile_directory) as server:
        small = daemon.submit(
            {"name": "small", "channels": [server.url], "dependencies": ["harmless"]}
        )
        daemon.completed(small)
        for name in MADE:
            assert daemon.request("POST", f"/build/{small}/artifacts/{name}/").status_code == 200
        for name in MADE:
            daemon.made(small, name)
    python = "/var/lib/condastore/state/default/envs/web/bin/python"
    # Others than the daemon's account use what it makes.
    user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    printed = service.machine.run(
        *user, python, "-Ic", "import alpha, click; print(alpha.__version__)"
    )
    assert printed == "1.0"
    story = f"build {build} of default/web "
    assert said(service, "BUILD", build) == [f"{story}begins", f"{story}is COMPLETED"]
    assert said(service, "REQUEST", answer.headers["X-Request-Id"]) == [f"{story}is queued"]


def test_F99_a_reload_says_what_became_of_it(service: Service) -> None:
    main = service.shows("MainPID")
    service.configure("c.CondaStore.max_build_time = 1\n1 / 0\n")
    service.do("reload")
    wrong = f"the new configuration is wrong: {CONFIG}, line 8: ZeroDivisionError"
    eventually(lambda: wrong in service.status(), what=service.status)
    assert service.shows("ActiveState") == "active"
    service.configure("c.CondaStore.max_specification_bytes = 1234567\n")
    service.do("reload")
    eventually(lambda: "taken over: CondaStore.max_specification_bytes" in service.journal())
    assert service.shows("MainPID") == main


def test_F18_a_killed_daemon_is_started_again_and_builds_go_on(
    service: Service, building: None
) -> None:
    before = service.pids()
    assert len(before) > 1
    service.machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "condastore")
    service.becomes("NRestarts", "1")
    service.becomes("ActiveState", "active")
    assert not before & service.pids()
    # One of them has begun anew.
    service.becomes("StatusText", "1 building, 1 queued")


def test_F98_F103_builds_go_on_after_a_stop_and_after_a_stall(
    service: Service, building: None
) -> None:
    # As if the unit was printed for less than the builds have now.
    service.add("TimeoutStopSec=100ms")
    service.do("stop")
    assert service.shows("ActiveState") == "inactive"
    assert (service.shows("Result"), service.shows("ExecMainStatus")) == ("success", "0")
    assert "have 1 s to finish" in service.journal()
    assert not service.pids()

    service.add("WatchdogSec=2")
    service.do("start")
    service.becomes("StatusText", "1 building, 1 queued")
    service.machine.run("kill", "-STOP", service.shows("MainPID"))
    service.becomes("NRestarts", "1")
    assert "Watchdog timeout (limit 2s)" in service.journal()
    service.becomes("ActiveState", "active")
    service.becomes("StatusText", "1 building, 1 queued")
    service.add("")


def test_what_must_be_mended_first_is_not_tried_again(service: Service) -> None:
    service.configure("c.CondaStore.database_url = 'mysql://server/database'\n")
    service.machine.run("systemctl", "restart", "condastore", check=False)
    assert service.shows("ActiveState") == "failed"
    assert service.shows("ExecMainStatus") == "78"
    assert "CondaStore.database_url names 'mysql'" in service.status()
    service.configure()


def test_requests_wait_in_the_socket_while_the_service_starts(service: Service) -> None:
    for line in documented("Socket activation"):
        service.machine.run("bash", "-ec", line)
    assert service.shows("MainPID") == "0"
    assert service.daemon.data_of("/permission/")["authenticated"] is True
    assert service.shows("ActiveState") == "active"

    has_ended, statuses = threading.Event(), []

    def ask() -> None:
        while not has_ended.is_set():
            statuses.append(get(f"{service.daemon.url}/api/v1/").status_code)

    with ThreadPoolExecutor(2) as threads:
        asking = [threads.submit(ask) for _ in range(2)]
        try:
            service.do("restart")
            eventually(lambda: statuses)
        finally:
            has_ended.set()
        for task in asking:
            task.result()
    assert set(statuses) == {200}
    service.machine.run("systemctl", "stop", "condastore.socket")
