"""The daemon under systemd: what it says, the socket that it is given, and SIGHUP."""

import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from condastore.errors import ConfigurationError
from tests.acceptance.harness import eventually
from tests.acceptance.supervisor import DEADLINE_S, Supervisor, ready, says, supervised

BLOCKING = """
import os, time
from starlette.responses import PlainTextResponse

async def block(request):
    open("blocked", "w").close()
    deadline = time.monotonic() + 120
    while not os.path.exists("go on") and time.monotonic() < deadline:
        time.sleep(0.01)
    return PlainTextResponse("blocked until now")

c.CondaStoreServer.additional_routes = [("/block", "GET", block)]
"""
FEW = "c.CondaStoreWorker.concurrency = 1\n"
MORE = """
c.CondaStoreWorker.concurrency = 2
c.CondaStore.max_specification_bytes = 300
c.CondaStore.conda_channel_alias = "https://mirror.example.org"
c.CondaStoreServer.url_prefix = "/elsewhere"
c.CondaStoreServer.log_level = 10
c.RBACAuthorizationBackend.unauthenticated_role_bindings = {}
"""
WRONG = [
    ("c.CondaStore.max_build_time = 1\n1 / 0\n", "{config}, line 2: ZeroDivisionError"),
    ("\n\nc.CondaStore.(\n", "{config}, line 3: SyntaxError"),
    ("\nc.CondaStore.max_build_time = 'long'", "{config}, line 2: The 'max_build_time' trait"),
    ("c.CondaStoreServer.log_level = 'loud'", "{config}, line 1: The 'log_level' trait"),
    ("c.CondaStore.default_permissions = '9'", "{config}, line 1: CondaStore.default_permissions"),
    (
        "c.RBACAuthorizationBackend.unauthenticated_role_bindings = {'*/*': ['king']}",
        "c.RBACAuthorizationBackend: ",
    ),
    ("c.CondaStoreServer.certfile = '/x'", "CondaStoreServer.keyfile go together"),
]
# Not that of the client.
NOBODY = {"Authorization": ""}


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    found = Supervisor(tmp_path)
    yield found
    found.close()


@pytest.fixture
def silence() -> Iterator[str]:
    """The URL of a channel that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/channel"


def test_what_systemd_hears_from_start_to_end(supervisor: Supervisor, tmp_path: Path) -> None:
    with supervised(supervisor, tmp_path / "data", watchdog_s=0.6) as daemon:
        ready(supervisor, daemon)
        assert daemon.request("GET", "/").status_code == 200
        supervisor.until("STATUS", "0 building, 0 queued")
        supervisor.until("WATCHDOG")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        supervisor.until("RELOADING")
        supervisor.until("READY")
        assert daemon.stop() == 0
        supervisor.until("STOPPING")
    told = [name for message in supervisor.heard for name in message if name != "WATCHDOG"]
    expected = ["STATUS", "READY", "STATUS", "RELOADING", "MONOTONIC_USEC", "READY"]
    assert told == [*expected, "STOPPING", "STATUS", "EXTEND_TIMEOUT_USEC"]


def test_F103_a_blocked_loop_does_not_feed_the_watchdog(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    config = tmp_path / "config.py"
    names = {name: str(tmp_path / name) for name in ("blocked", "go on")}
    text = BLOCKING
    for name, path in names.items():
        text = text.replace(f'"{name}"', repr(path))
    config.write_text(text)
    arguments = [f"--config={config}"]
    with supervised(supervisor, tmp_path / "data", *arguments, watchdog_s=0.3) as daemon:
        ready(supervisor, daemon)
        supervisor.until("WATCHDOG")
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(daemon.client.get, f"{daemon.url}/block", timeout=120)
            try:
                eventually((tmp_path / "blocked").exists, DEADLINE_S)
                assert supervisor.is_silent(for_s=2)
            finally:
                (tmp_path / "go on").touch()
            assert answer.result().text == "blocked until now"
        supervisor.until("WATCHDOG")


def test_a_reload_takes_over_what_it_can(
    supervisor: Supervisor, tmp_path: Path, silence: str
) -> None:
    config = tmp_path / "config.py"
    config.write_text(FEW)
    with supervised(supervisor, tmp_path / "data", f"--config={config}") as daemon:
        ready(supervisor, daemon)

        def reload(text: str) -> None:
            config.write_text(text)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGHUP)
            supervisor.until("RELOADING")
            supervisor.until("READY")

        for name in ("a", "b", "c"):
            daemon.submit({"name": name, "channels": [silence], "dependencies": ["x"]})
        supervisor.until("STATUS", "1 building, 2 queued")
        seen = f"{daemon.url}/api/v1/build/1/"
        assert daemon.client.get(seen, headers=NOBODY).status_code == 200

        reload(MORE)
        supervisor.until("STATUS", "2 building, 1 queued")
        says(daemon, "CondaStoreServer.url_prefix has changed: restart to make it count")
        says(daemon, "taken over: CondaStoreServer.log_level, CondaStore.conda_channel_alias, ")
        settings = daemon.data_of("/setting/")
        assert settings["conda_channel_alias"] == "https://mirror.example.org"
        large = {"name": "d", "dependencies": ["x"], "description": "x" * 400}
        assert "300 bytes" in daemon.post(large).text
        assert daemon.client.get(seen, headers=NOBODY).status_code == 403

        for wrong, explained in WRONG:
            reload(wrong)
            says(daemon, explained.format(config=config))
            assert "the new configuration is wrong" in supervisor.heard[-1]["STATUS"]
            assert daemon.data_of("/setting/") == settings


@pytest.mark.parametrize("is_local", [False, True], ids=["port", "unix"])
def test_a_socket_that_is_passed_on(
    supervisor: Supervisor, tmp_path: Path, *, is_local: bool
) -> None:
    path = tmp_path / "socket"
    listening = socket.socket(socket.AF_UNIX) if is_local else socket.socket(socket.AF_INET)
    with listening:
        listening.bind(str(path) if is_local else ("127.0.0.1", 0))
        listening.listen()
        address = listening.getsockname()
        with socket.socket(listening.family) as client:
            client.connect(address)
            # It comes before the daemon does.
            client.sendall(b"GET /api/v1/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.settimeout(DEADLINE_S)
            with supervised(supervisor, tmp_path / "data", listening=listening) as daemon:
                assert client.recv(100).startswith(b"HTTP/1.1 200 ")
                ready(supervisor, daemon)
                assert ("on the Unix socket" in daemon.output.read_text()) == is_local
                assert daemon.stop() == 0
        # Another daemon can be started with it.
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not is_local or path.is_socket()


def test_a_socket_that_can_not_be_listened_on_is_refused(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_INET) as idle:
        idle.bind(("127.0.0.1", 0))
        with supervised(supervisor, tmp_path / "data", listening=idle) as daemon:
            assert daemon.wait() == ConfigurationError.exit_status
            assert "condastore.socket must have a ListenStream= line" in daemon.output.read_text()
    assert all("READY" not in message for message in supervisor.heard)
