"""Disks that are full, in most ways in which they can be, and several (I6, F21, F22, F26)."""

import errno
import json
import os
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.rawpackage import RawMember
from devtools.localchannel.server import Fault, serve
from tests.acceptance.harness import Daemon, DaemonDied, eventually, is_clean, running
from tests.acceptance.oracle import assert_sound
from tests.acceptance.stories import specification
from tests.engine.test_store import write_package
from tests.mounts import mounted

MB = 10**6
LIMIT = 20 * MB
PATIENCE_S = 120


class SmallDaemon(Daemon):
    """A daemon on a small file system, which prints elsewhere."""

    @property
    def output(self) -> Path:
        return self.data.parent.parent / "daemon.out"

    @property
    def problem(self) -> str | None:
        """What the daemon says of its disk."""
        found: str | None = self.data_of("/health/")["disk"]
        return found

    def last_phase(self, build_id: int) -> str:
        """The phase in which a build ended whose task has ended as well."""
        [(result,)] = self.query(f"SELECT result FROM task WHERE build_id = {build_id}")
        phase: str = json.loads(result)["phases"][-1]["phase"]
        return phase

    def knows(self, *texts: str) -> None:
        """Waits until the daemon says this of its disk; nothing: that there is room."""
        eventually(
            lambda: (
                all(text in (self.problem or "") for text in texts)
                and bool(texts) == (self.problem is not None)
            ),
            PATIENCE_S,
            what=lambda: self.problem,
        )


@contextmanager
def served_from(small: Path, *arguments: str) -> Iterator[SmallDaemon]:
    daemon = SmallDaemon(small / "data", *arguments)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.kill()
        daemon.client.close()


def fill(small: Path, *, leave: int = 0) -> None:
    """Takes all of the bytes but some."""
    with (small / "filler").open("ab", buffering=0) as filler:
        while (room := os.statvfs(small).f_bavail * os.statvfs(small).f_frsize - leave) > 0:
            try:
                filler.write(bytes(min(room, MB)))
            except OSError as error:
                assert error.errno == errno.ENOSPC
                return


@contextmanager
def filled(small: Path) -> Iterator[None]:
    """Leaves what a daemon needs to go on, and nothing else, for a while."""
    fill(small, leave=3 * MB)
    try:
        yield
    finally:
        (small / "filler").unlink()


def harmless(channel: str, name: str) -> dict[str, Any]:
    return {"name": name, "channels": [channel], "dependencies": ["harmless"]}


def refused(daemon: Daemon, channel: str, build_id: int = 1) -> str:
    """Everything that takes space is refused, with the same text, which is returned."""
    asked = [
        daemon.post(harmless(channel, "refused")),
        daemon.request("PUT", "/setting/", json={"conda_max_solve_time": 5}),
        daemon.request("POST", "/namespace/refused/"),
        daemon.request("PUT", f"/build/{build_id}/"),
        daemon.request("POST", f"/build/{build_id}/artifacts/CONSTRUCTOR_INSTALLER/"),
    ]
    assert [answer.status_code for answer in asked] == [507] * len(asked), [
        answer.text for answer in asked
    ]
    messages: list[str] = [answer.json()["message"] for answer in asked]
    # But for how much room there is, which may change from one answer to the next.
    assert len({re.sub(r"[0-9]+ (bytes|MB)", "", message) for message in messages}) == 1
    return messages[-1]


def test_less_than_must_stay_free(tmp_path: Path, hostile_directory: Path) -> None:
    """F21, F22: what takes space waits or is refused, all else goes on, also on a full disk."""
    slow = {"*repodata*": Fault(delay=3600)}
    options = (f"--CondaStore.min_free_bytes={LIMIT}", "--CondaStoreWorker.concurrency=1")
    tiny = hostile_directory.as_uri()
    with mounted("tmpfs", tmp_path / "small", 96) as small, served_from(small, *options) as daemon:
        kept = daemon.submit(harmless(tiny, "kept"))
        daemon.completed(kept)
        daemon.completed(daemon.submit(harmless(tiny, "gone")))
        assert daemon.problem is None
        reserve = daemon.data / ".reserve"
        eventually(reserve.is_dir, PATIENCE_S)

        with serve(hostile_directory, faults=slow) as channel:
            running = daemon.submit(harmless(channel.url, "running"))
            daemon.wait_for_event(running, "solve")
            waiting = daemon.submit(harmless(tiny, "waiting"))
            fill(small, leave=LIMIT // 2)
            daemon.knows("CondaStore.data_directory", "min_free_bytes", "10 MB", "20 MB")
            assert "min_free_bytes" in refused(daemon, tiny)
            assert "condastore_disk_full 1" in daemon.client.get(f"{daemon.url}/metrics").text
            page = daemon.client.get(f"{daemon.url}/ui/").text
            assert "Nothing can be built or changed now" in page
            assert "nothing begins that takes space" in daemon.output.read_text()

            # Its place is free now, but nobody takes it.
            daemon.cancel(running)
            assert daemon.ended(running)["status"] == "CANCELED"
        assert daemon.request("DELETE", "/environment/default/gone/").status_code == 200
        eventually(lambda: len(daemon.data_of("/environment/")) == 3, PATIENCE_S)
        eventually(lambda: not list((daemon.store / ".trash").iterdir()), PATIENCE_S)
        build = daemon.build(waiting)
        assert build["status"] == "QUEUED"
        assert "it waits for room" in build["status_info"]
        daemon.kill()

        fill(small)
        daemon.start()
        assert not reserve.exists()
        assert "the reserve" in daemon.output.read_text()
        assert "min_free_bytes" in refused(daemon, tiny)
        login = daemon.client.post(
            f"{daemon.url}/login/", data={"username": "admin", "password": daemon.token}
        )
        assert login.status_code < 400, login.text
        assert daemon.build(waiting)["status"] == "QUEUED"
        daemon.cancel(waiting)
        assert daemon.ended(waiting)["status"] == "CANCELED"
        assert daemon.request("DELETE", f"/build/{kept}/").status_code == 200
        eventually(lambda: "came free" in (daemon.build(kept)["status_info"] or ""), PATIENCE_S)
        # Also of the environment whose removal the kill may have broken off.
        eventually(lambda: daemon.prefixes() == [], PATIENCE_S, what=daemon.prefixes)

        (small / "filler").unlink()
        daemon.knows()
        assert daemon.build(kept)["status"] == "COMPLETED"
        daemon.completed(daemon.submit(harmless(tiny, "after")))
        eventually(reserve.is_dir, PATIENCE_S)
        eventually(lambda: is_clean(daemon), PATIENCE_S, what=daemon.litter)


def test_F21_no_space_in_each_phase_of_a_build(tmp_path: Path) -> None:
    """It fails, says so, and leaves nothing; with space again, all of it is made."""
    package = write_package(
        tmp_path / "channel", [RawMember("share/data", random.Random(0).randbytes(8 * MB))]
    )
    # Scripts may write to their files, so a prefix has copies: linking takes space.
    options = ("--CondaStore.min_free_bytes=0", "--CondaStore.run_link_scripts=true")
    fetching = threading.Event()
    with (
        mounted("tmpfs", tmp_path / "small", 64) as small,
        serve(tmp_path / "channel", faults={"*": Fault(until=fetching)}) as channel,
        served_from(small, *options) as daemon,
    ):
        url = f"{channel.url}/noarch/odd-1.0-0.conda"
        locked = f"@EXPLICIT\n{url}#{package['sha256']}\n"

        def build() -> int:
            return daemon.submit(locked, is_lockfile=True, environment_name="full")

        def fails_for_space(build_id: int, phase: str) -> None:
            failed = daemon.ended(build_id)
            assert failed["status"] == "FAILED"
            assert "no space left on the disk" in failed["status_info"].lower()
            eventually(lambda: is_clean(daemon), PATIENCE_S, what=daemon.litter)
            assert daemon.last_phase(build_id) == phase
            assert daemon.prefixes() == []

        # It looks how much room there is before it asks.
        build_id = build()
        eventually(lambda: channel.requests)
        with filled(small):
            fetching.set()
            fails_for_space(build_id, "fetch")
        build_id = build()
        daemon.completed(build_id)
        assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200
        eventually(lambda: daemon.prefixes() == [] and is_clean(daemon), PATIENCE_S)
        with filled(small):
            fails_for_space(build(), "link")
        build_id = build()
        daemon.completed(build_id)
        archive = f"/build/{build_id}/artifacts/CONDA_PACK/"
        with filled(small):
            assert daemon.request("POST", archive).status_code == 200
            eventually(lambda: "space" in str(archive_of(daemon, build_id)["error"]).lower())
            assert archive_of(daemon, build_id)["state"] == "FAILED"
            eventually(lambda: is_clean(daemon), PATIENCE_S, what=daemon.litter)
        assert daemon.request("POST", archive).status_code == 200
        daemon.made(build_id, "CONDA_PACK")
        assert_sound(daemon)
        assert "Traceback" not in daemon.output.read_text()


def archive_of(daemon: Daemon, build_id: int) -> dict[str, Any]:
    rows = daemon.data_of(f"/build/{build_id}/artifacts/")
    found: dict[str, Any] = next(row for row in rows if row["artifact_type"] == "CONDA_PACK")
    return found


def test_a_directory_that_is_mounted_read_only(tmp_path: Path) -> None:
    """F29"""
    with mounted("tmpfs", tmp_path / "small", 1, "ro") as small:
        daemon = SmallDaemon(small)
        with pytest.raises(DaemonDied, match=r"can't be used: Read-only file system; set c\."):
            daemon.start()
        daemon.client.close()


def test_F26_prefixes_on_another_file_system_than_the_packages(
    tmp_path: Path, channel: str, index: str
) -> None:
    """They have copies, and go away as elsewhere."""
    with (
        mounted("tmpfs", tmp_path / "other", 400) as other,
        running(tmp_path / "data", f"--CondaStore.build_directory={other}/{{namespace}}") as daemon,
    ):
        wanted = specification(channel, "python", "flask")
        wanted["dependencies"] += ({"pip": ["alpha", f"--index-url {index}"]},)
        build_id = daemon.submit(wanted)
        build = daemon.completed(build_id)
        prefix = daemon.link("survivor").resolve()
        assert prefix.parent == other / "default"
        program = "import alpha, flask; print(flask.__cached__)"
        run = subprocess.run([prefix / "bin/python", "-c", program], capture_output=True)
        assert Path(os.fsdecode(run.stdout).strip()).is_file(), run.stderr
        path = f"/build/{build_id}/artifacts/CONDA_PACK/"
        assert daemon.request("POST", path).status_code == 200
        daemon.made(build_id, "CONDA_PACK")
        used = os.statvfs(other).f_bfree
        assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200
        eventually(lambda: "came free" in (daemon.build(build_id)["status_info"] or ""))
        freed = int(str(daemon.build(build_id)["status_info"]).split()[1])
        assert freed >= build["size"] > 0
        assert list((other / "default").iterdir()) == []
        assert os.statvfs(other).f_bfree > used
        assert_sound(daemon)
