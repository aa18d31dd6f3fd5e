"""A log live: every byte once and in order, whenever and however often a reader comes (I8)."""

import json
import random
import re
import socket
import stat
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.sync.client import ClientConnection
from websockets.typing import Origin

from condastore.builds import build_key
from devtools.localchannel.server import ChannelServer, Fault, serve
from tests.acceptance.harness import FOREVER_S, Daemon, eventually, listen, running
from tests.patience import PATIENCE_S, is_quick

PHASES = ["solve", "fetch", "link", "bytecode", "permissions", "export"]
MEBIBYTE = 2**20


def frames(connection: ClientConnection) -> list[dict[str, Any]]:
    """Reads a websocket to its end, which must be a normal one."""
    found = []
    with pytest.raises(ConnectionClosedOK) as closed:
        while True:
            found.append(json.loads(connection.recv(timeout=PATIENCE_S)))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    return found


def joined(received: list[dict[str, Any]], offset: int = 0) -> bytes:
    """Returns the text of frames, which must follow each other without a gap or a repeat."""
    data = b""
    for frame in received:
        if "text" in frame:
            assert frame.keys() == {"offset", "text"}
            assert frame["offset"] == offset + len(data)
            data += frame["text"].encode()
    return data


def whole_log(daemon: Daemon, build_id: int) -> bytes:
    return daemon.request("GET", f"/build/{build_id}/logs/").content


def specification(channel: str, **fields: Any) -> dict[str, Any]:
    return {"name": "logged", "channels": [channel], "dependencies": ["python"], **fields}


@pytest.fixture
def talkative(tmp_path: Path) -> Callable[[int], Path]:
    """Makes a stand-in for conda that says much, in characters of all lengths, and fails."""

    def make(lines: int, pause_s: float = 0.0) -> Path:
        path = tmp_path / "talkative"
        path.write_text(
            "#!/usr/bin/env python3\n"
            "import sys, time\n"
            "if '--version' in sys.argv: print('conda 24.1.0'); sys.exit()\n"
            f"for i in range({lines}):\n"
            "    print(f'line {i} ä € 𝄞 ' + 'x' * 100, file=sys.stderr, flush=True)\n"
            f"    time.sleep({pause_s})\n"
            "sys.exit(1)\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return make


def test_following_with_curl_ends_with_the_build(
    shared_daemon: Daemon, small_channel: Path
) -> None:
    told = threading.Event()
    with serve(small_channel, faults={"*repodata*": Fault(until=told)}) as server:
        build_id = shared_daemon.submit(specification(server.url))
        url = f"{shared_daemon.url}/api/v1/build/{build_id}/logs/?follow=1"
        with shared_daemon.client.stream("GET", url) as response:
            assert response.headers["content-type"].startswith("text/plain")
            # Not told after the end, but as it happens.
            pieces = response.iter_bytes()
            text = next(pieces)
            assert shared_daemon.build(build_id)["status"] == "BUILDING"
            told.set()
            text += b"".join(pieces)
    assert shared_daemon.build(build_id)["status"] == "COMPLETED"
    assert text == whole_log(shared_daemon, build_id)
    lines = text.decode().splitlines()
    assert re.fullmatch(r"starting build of conda environment [-0-9]+ [:.0-9]+ UTC", lines[0])
    assert lines[-1] == f"build {build_id} is default/logged now"


def test_a_websocket_tells_phases_progress_text_and_the_status(
    daemon: Daemon, server: ChannelServer
) -> None:
    server.faults["*.conda"] = Fault(drip=20_000_000)
    build_id = daemon.submit(specification(server.url))
    with daemon.socket(build_id) as connection:
        received = frames(connection)
    assert joined(received) == whole_log(daemon, build_id)
    assert received[-1] == {"event": "status", "status": "COMPLETED"}
    phases = [frame["phase"] for frame in received if frame.get("event") == "phase"]
    assert list(dict.fromkeys(phases)) == PHASES
    progress = [frame for frame in received if frame.get("event") == "progress"]
    for frame in progress:
        assert {"phase", "done", "total", "bytes", "eta_s"} <= frame.keys()
        assert 0 <= frame["done"] <= frame["total"]
    fetched = [frame["bytes"] for frame in progress if frame["phase"] == "fetch"]
    assert fetched == sorted(fetched)
    assert sum(1 for count in fetched if count) > 1


def test_replay_from_any_offset_also_within_a_character(tmp_path: Path, talkative: Any) -> None:
    arguments = f"--CondaStore.conda_command={talkative(40)}"
    with running(tmp_path / "data", arguments) as daemon:
        build_id = daemon.submit(specification("https://unused.invalid/c"))
        daemon.ended(build_id)
        whole = whole_log(daemon, build_id)
        assert "𝄞".encode() in whole
        note = whole.index("𝄞".encode())
        numbers = random.Random(7)
        offsets = [0, 1, note, note + 1, note + 2, note + 3, note + 4, len(whole)]
        offsets += [numbers.randrange(len(whole)) for _ in range(15)]
        for offset in offsets:
            start = offset
            while start < len(whole) and whole[start] & 0xC0 == 0x80:
                start -= 1
            with daemon.socket(build_id, offset) as connection:
                received = frames(connection)
            assert joined(received, start) == whole[start:], offset
            assert received[-1] == {"event": "status", "status": "FAILED"}
            query = f"/build/{build_id}/logs/?offset={offset}"
            for path in (query, f"{query}&follow=1"):
                assert daemon.request("GET", path).content == whole[start:]
        beyond = daemon.request("GET", f"/build/{build_id}/logs/?offset={10**30}")
        assert beyond.content == b""


def test_readers_that_come_and_go_miss_and_repeat_nothing(tmp_path: Path, talkative: Any) -> None:
    arguments = f"--CondaStore.conda_command={talkative(2000, 0.0005)}"
    with running(tmp_path / "data", arguments) as daemon:
        build_id = daemon.submit(specification("https://unused.invalid/c"))
        results: dict[int, bytes] = {}

        def read(seed: int) -> None:
            """Reads a few frames, leaves, comes back where it was, until the end."""
            numbers, data = random.Random(seed), b""
            while True:
                with daemon.socket(build_id, len(data)) as connection:
                    for _ in range(numbers.randrange(1, 12)):
                        frame = json.loads(connection.recv(timeout=PATIENCE_S))
                        if "text" in frame:
                            assert frame["offset"] == len(data)
                            data += frame["text"].encode()
                        if frame.get("event") == "status":
                            results[seed] = data
                            return

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(3 * PATIENCE_S)
        whole = whole_log(daemon, build_id)
        assert "line 1999 " in whole.decode()
        assert [results.get(seed) == whole for seed in range(8)] == [True] * 8


def test_a_reader_in_the_last_moment_of_a_build_gets_its_last_lines(
    tmp_path: Path, tiny: str
) -> None:
    # The row says COMPLETED while the daemon stands still here; the log has more to come.
    fault = {"CONDASTORE_FAULT": "build.recorded:1:sleep:1"}
    with running(tmp_path / "data", **fault) as daemon:
        build_id = daemon.submit(specification(tiny, dependencies=["harmless"]))
        daemon.wait_for_event(build_id, "export")
        with daemon.socket(build_id) as connection:
            received = frames(connection)
        assert joined(received) == whole_log(daemon, build_id)
        assert f"build {build_id} is default/logged now" in whole_log(daemon, build_id).decode()


def test_a_reader_may_wait_for_a_build_that_waits(tmp_path: Path, server: ChannelServer) -> None:
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=1") as daemon:
        server.faults["*repodata*"] = Fault(delay=FOREVER_S)
        first = daemon.submit(specification(server.url))
        second = daemon.submit(specification(server.url, name="second"))
        third = daemon.submit(specification(server.url, name="third"))
        with daemon.socket(second) as waiting, daemon.socket(third) as leaving:
            assert daemon.build(second)["status"] == "QUEUED"
            daemon.cancel(third)
            left = frames(leaving)
            server.faults.clear()
            daemon.cancel(first)
            received = frames(waiting)
        assert left[-1] == {"event": "status", "status": "CANCELED"}
        assert joined(left) == whole_log(daemon, third)
        assert f"build {third} marked as CANCELED due to being canceled" in joined(left).decode()
        assert received[-1] == {"event": "status", "status": "COMPLETED"}
        assert joined(received) == whole_log(daemon, second)


def test_a_cancel_reaches_the_readers(shared_daemon: Daemon, small_channel: Path) -> None:
    with serve(small_channel, faults={"*repodata*": Fault(delay=FOREVER_S)}) as server:

        def attempt() -> float:
            build_id = shared_daemon.submit(specification(server.url))
            with shared_daemon.socket(build_id) as connection:
                json.loads(connection.recv(timeout=PATIENCE_S))
                shared_daemon.cancel(build_id)
                began = time.monotonic()
                received = frames(connection)
            assert received[-1] == {"event": "status", "status": "CANCELED"}
            return time.monotonic() - began

        assert is_quick(attempt, 1, 8)


def test_readers_that_do_not_read_cost_the_daemon_no_memory(
    tmp_path: Path, server: ChannelServer
) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    with running(tmp_path / "data", "--CondaStoreWorker.concurrency=1") as daemon:
        daemon.submit(specification(server.url))
        build_id = daemon.submit(specification(server.url, name="long"))
        earlier = b"".join(b"%07d of an earlier attempt\n" % n for n in range(2**20))
        log_file(daemon, build_id).write_bytes(earlier)
        before = resident_bytes(daemon)
        readers = [stuck_reader(daemon, build_id) for _ in range(3)]
        time.sleep(2)
        # Each could have been sent 28 MiB, of which the kernel holds some.
        assert resident_bytes(daemon) - before < 12 * MEBIBYTE
        daemon.cancel(build_id)
        whole = whole_log(daemon, build_id)
        assert whole.startswith(earlier)
        assert len(whole) > len(earlier)
        for reader in readers:
            assert http_body(reader) == whole


def test_pages_of_other_sites_get_no_websocket(shared_daemon: Daemon, tiny: str) -> None:
    build_id = shared_daemon.submit(specification(tiny, dependencies=["harmless"]))
    shared_daemon.completed(build_id)
    url = shared_daemon.url.replace("http://", "ws://") + f"/api/v1/build/{build_id}/logs/ws"
    with pytest.raises(InvalidStatus) as refused:
        listen(url, origin=Origin("https://evil.example"))
    assert refused.value.response.status_code == 403
    with listen(url, origin=Origin(shared_daemon.url)) as own:
        assert own.request is not None and own.response is not None
        # What a client compresses could be a bomb.
        assert "permessage-deflate" in own.request.headers["Sec-WebSocket-Extensions"]
        assert "Sec-WebSocket-Extensions" not in own.response.headers
        assert frames(own)[-1]["status"] == "COMPLETED"


def test_a_name_that_leads_here_is_not_enough_for_a_websocket(shared_daemon: Daemon) -> None:
    host, port = shared_daemon.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as rebound:
        rebound.sendall(
            b"GET /api/v1/build/1/logs/ws HTTP/1.1\r\n"
            b"Host: evil.example\r\nOrigin: http://evil.example\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert rebound.recv(64).split()[1] in (b"400", b"403")


def test_a_websocket_to_what_is_not_there_says_so(shared_daemon: Daemon) -> None:
    for build_id, message in ((10**9, "build id does not exist"), (-5, "build id does not exist")):
        with (
            shared_daemon.socket(build_id) as connection,
            pytest.raises(ConnectionClosedError) as closed,
        ):
            assert json.loads(connection.recv(timeout=PATIENCE_S)) == {"error": message}
            connection.recv(timeout=PATIENCE_S)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1008, message)


def readers_token(daemon: Daemon, expires_in_s: float) -> str:
    expiration = datetime.now(UTC) + timedelta(seconds=expires_in_s)
    wanted = {"role_bindings": {"private/*": ["viewer"]}, "expiration": expiration.isoformat()}
    token: str = daemon.request("POST", "/token/", json=wanted).json()["data"]["token"]
    return token


def open_websockets(daemon: Daemon) -> float:
    text = daemon.client.get(f"{daemon.url}/metrics").text
    found = re.search(r"^condastore_log_websockets (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def assert_sent_away(reader: ClientConnection) -> None:
    with pytest.raises(ConnectionClosedError) as closed:
        while True:
            last = json.loads(reader.recv(timeout=PATIENCE_S))
    assert last == {"error": "request not authorized"}
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_who_may_not_read_any_more_is_told_so(shared_daemon: Daemon, small_channel: Path) -> None:
    daemon = shared_daemon
    with serve(small_channel, faults={"*repodata*": Fault(delay=FOREVER_S)}) as server:
        build_id = daemon.submit(specification(server.url), namespace="private")
        eventually(lambda: open_websockets(daemon) == 0)
        url = daemon.url.replace("http://", "ws://") + f"/api/v1/build/{build_id}/logs/ws"

        def socket_of(token: str) -> ClientConnection:
            headers = {"Authorization": f"Bearer {token}"}
            return listen(url, additional_headers=headers)

        lasts = readers_token(daemon, 3600)
        text = httpx.stream(
            "GET",
            f"{daemon.url}/api/v1/build/{build_id}/logs/?follow=1",
            headers={"Authorization": f"Bearer {lasts}"},
            timeout=PATIENCE_S,
        )
        with text as response, socket_of(lasts) as revoked, socket_of(daemon.token) as admin:
            eventually(lambda: open_websockets(daemon) == 2)
            newest = max(row["id"] for row in daemon.request("GET", "/token/").json()["data"])
            assert daemon.request("DELETE", f"/token/{newest}/").status_code == 200
            assert_sent_away(revoked)
            with socket_of(readers_token(daemon, 2)) as ends_soon:
                assert_sent_away(ends_soon)
            assert response.read().endswith(b"[condastore: this token may not read on]\n")
            # Whoever still may reads to the end.
            daemon.cancel(build_id)
            assert frames(admin)[-1] == {"event": "status", "status": "CANCELED"}
    eventually(lambda: open_websockets(daemon) == 0)
    metrics = daemon.client.get(f"{daemon.url}/metrics").text
    assert re.search(r'^condastore_builds_ended_total{status="canceled"} [1-9]', metrics, re.M)


def test_a_log_at_its_limit_says_so_and_still_tells_the_end(tmp_path: Path, talkative: Any) -> None:
    arguments = [f"--CondaStore.conda_command={talkative(500)}", "--CondaStore.max_log_bytes=5000"]
    with running(tmp_path / "data", *arguments) as daemon:
        build_id = daemon.submit(specification("https://unused.invalid/c"))
        with daemon.socket(build_id) as connection:
            received = frames(connection)
        build = daemon.build(build_id)
        text = whole_log(daemon, build_id).decode()
    assert joined(received).decode() == text
    kept, marker, rest = text.partition(
        "\n[condastore: the log reached its limit of 5000 bytes; what came after was left out]\n"
    )
    assert marker
    assert 4900 < len(kept.encode()) <= 5000
    assert rest == f"build failed: {build['status_info']}\n"


def log_file(daemon: Daemon, build_id: int) -> Path:
    """Returns where the log of a build is that waits."""
    build = daemon.build(build_id)
    key = build_key(
        2,
        sha256=build["specification"]["sha256"],
        scheduled_on=datetime.fromisoformat(build["scheduled_on"]),
        build_id=build_id,
        name=build["specification"]["name"],
        namespace="default",
    )
    return daemon.data / "logs" / f"{key}.log"


def stuck_reader(daemon: Daemon, build_id: int) -> socket.socket:
    """Asks for a log and reads nothing of it."""
    host, port = daemon.url.removeprefix("http://").split(":")
    reader = socket.socket()
    reader.connect((host, int(port)))
    reader.sendall(
        f"GET /api/v1/build/{build_id}/logs/?follow=1 HTTP/1.1\r\nHost: {host}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    return reader


def http_body(reader: socket.socket) -> bytes:
    """Reads a chunked response to its end."""
    with reader, reader.makefile("rb") as file:
        while file.readline().strip():
            pass
        body = b""
        while size := int(file.readline(), 16):
            body += file.read(size)
            file.readline()
        return body


def resident_bytes(daemon: Daemon) -> int:
    pages = int(Path(f"/proc/{daemon.pid}/statm").read_text().split()[1])
    return pages * 4096


def test_no_descriptor_is_left_open(shared_daemon: Daemon, tiny: str) -> None:
    def descriptors() -> int:
        return len(list(Path(f"/proc/{shared_daemon.pid}/fd").iterdir()))

    def build_and_read() -> None:
        build_id = shared_daemon.submit(specification(tiny, dependencies=["harmless"]))
        with shared_daemon.socket(build_id) as connection:
            frames(connection)
        shared_daemon.request("GET", f"/build/{build_id}/logs/?follow=1")

    build_and_read()
    before = descriptors()
    for _ in range(3):
        build_and_read()
    eventually(lambda: descriptors() <= before + 1, what=lambda: f"{before} -> {descriptors()}")
