"""An environment always is one of its builds, whole; what is deleted is gone."""

import fcntl
import os
import resource
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.server import Fault, serve
from tests.acceptance.harness import Daemon, assert_becomes_clean, eventually, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with running(tmp_path_factory.mktemp("environment") / "data") as found:
        yield found


def prefixes(daemon: Daemon, name: str) -> list[Path]:
    """Returns the prefixes of an environment's builds."""
    return [path for path in daemon.prefixes() if path.name.endswith(f"-{name}")]


def specification(channel: str, name: str, *packages: str) -> dict[str, Any]:
    return {"name": name, "channels": [channel], "dependencies": packages or ["harmless"]}


class Watcher(threading.Thread):
    """Reads through a link as fast as it can, and notes when that fails."""

    def __init__(self, link: Path, below: str) -> None:
        super().__init__()
        self._path = link / below
        self.failures: list[str] = []
        self.seen: set[str] = set()
        self.reads = 0
        self.over = False

    def run(self) -> None:
        while not self.over:
            try:
                self.seen.add(os.readlink(self._path.parent.parent))
                self._path.read_bytes()
                self.reads += 1
            except OSError as error:
                self.failures.append(str(error))


def test_a_busy_reader_never_sees_an_environment_missing(daemon: Daemon, tiny: str) -> None:
    builds = [daemon.submit(specification(tiny, "busy")) for _ in range(2)]
    for build_id in builds:
        daemon.completed(build_id)
    watcher = Watcher(daemon.link("busy"), "share/harmless")
    watcher.start()
    for turn in range(20):
        wanted = builds[turn % 2]
        answer = daemon.request("PUT", "/environment/default/busy/", json={"build_id": wanted})
        assert answer.status_code == 200
        name = f"-{wanted}-busy"
        eventually(lambda name=name: os.readlink(daemon.link("busy")).endswith(name))  # type: ignore[misc]
    daemon.completed(daemon.submit(specification(tiny, "busy")))
    watcher.over = True
    watcher.join()
    assert watcher.failures == []
    assert watcher.reads > 100
    assert len(watcher.seen) == 3


def test_deleting_the_current_build_falls_back_to_the_newest_other(
    daemon: Daemon, tiny: str
) -> None:
    first, second, third = (daemon.submit(specification(tiny, "fallback")) for _ in range(3))
    for build_id in (first, second, third):
        daemon.completed(build_id)
    daemon.request("PUT", "/environment/default/fallback/", json={"build_id": first})
    watcher = Watcher(daemon.link("fallback"), "share/harmless")
    eventually(lambda: os.readlink(daemon.link("fallback")).endswith(f"-{first}-fallback"))
    watcher.start()

    answer = daemon.request("DELETE", f"/build/{first}/")

    assert answer.status_code == 200
    assert daemon.data_of("/environment/default/fallback/")["current_build_id"] == third
    eventually(lambda: daemon.build(first)["size"] == 0)
    watcher.over = True
    watcher.join()
    assert watcher.failures == []
    assert os.readlink(daemon.link("fallback")).endswith(f"-{third}-fallback")
    assert len(prefixes(daemon, "fallback")) == 2
    answer = daemon.request("PUT", "/environment/default/fallback/", json={"build_id": first})
    assert answer.status_code == 400
    assert_becomes_clean(daemon)


def test_deleting_the_only_build_leaves_no_link_and_a_new_one_brings_it_back(
    daemon: Daemon, tiny: str
) -> None:
    only = daemon.submit(specification(tiny, "lonely"))
    daemon.completed(only)
    daemon.request("DELETE", f"/build/{only}/")
    eventually(lambda: daemon.build(only)["size"] == 0)
    assert not daemon.link("lonely").is_symlink()
    # The contract never shows an environment without a current build.
    assert daemon.data_of("/environment/default/lonely/")["current_build_id"] == only
    assert daemon.request("GET", f"/build/{only}/yaml/").status_code == 200
    assert daemon.request("GET", f"/build/{only}/logs/").status_code == 200
    assert daemon.request("DELETE", f"/build/{only}/").status_code == 200
    again = daemon.submit(specification(tiny, "lonely"))
    daemon.completed(again)
    assert daemon.link("lonely").is_dir()
    assert daemon.data_of("/environment/default/lonely/")["current_build_id"] == again


def memory_limits(daemon: Daemon) -> set[int]:
    """Returns how much memory each engine may take."""
    children = [int(line.split()[0]) for line in daemon.processes()]
    return {resource.prlimit(pid, resource.RLIMIT_AS)[0] for pid in children}


def test_a_build_that_runs_cannot_be_deleted(daemon: Daemon, hostile_directory: Path) -> None:
    go_on = threading.Event()
    with serve(hostile_directory, faults={"*repodata*": Fault(until=go_on)}) as server:
        build_id = daemon.submit(specification(server.url, "running"))
        eventually(lambda: server.requests)
        assert daemon.build(build_id)["status"] == "BUILDING"
        # What the solver reads can't take all of the machine's memory (I10).
        eventually(lambda: memory_limits(daemon) == {16 * 2**30})
        answer = daemon.request("DELETE", f"/build/{build_id}/")
        assert answer.status_code == 400
        assert answer.json()["message"] == "cannot delete build since not finished building"
        assert daemon.build(build_id)["status"] == "BUILDING"
        go_on.set()
        daemon.completed(build_id)


def test_deleting_says_how_many_bytes_came_free(daemon: Daemon, tiny: str, channel: str) -> None:
    build_id = daemon.submit(specification(channel, "heavy", "python"))
    size = daemon.completed(build_id)["size"]
    assert size > 10**7

    def used() -> int:
        """Bytes in files, each counted once however many links it has."""
        found = {}
        for path in daemon.store.rglob("*"):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode) and "envs" not in path.parts:
                found[status.st_ino] = status.st_size
        return sum(found.values())

    before = used()
    answer = daemon.request("DELETE", f"/build/{build_id}/")
    assert answer.json()["message"] == f"build {build_id} is being deleted ({size} bytes)"
    eventually(lambda: daemon.build(build_id)["size"] == 0)
    info = daemon.build(build_id)["status_info"]
    freed = int(info.removeprefix("deleted; ").removesuffix(" bytes came free"))
    # What the package store keeps for the next build is not counted.
    assert freed == before - used()
    assert 0 < freed < size

    other = daemon.submit(specification(tiny, "light"))
    size = daemon.completed(other)["size"]
    answer = daemon.request("DELETE", "/environment/default/light/")
    assert answer.json()["message"] == (
        f"environment default/light is being deleted ({size} bytes)"
    )
    eventually(lambda: daemon.request("GET", "/environment/default/light/").status_code == 404)
    assert prefixes(daemon, "heavy") == prefixes(daemon, "light") == []
    assert_becomes_clean(daemon)


def test_a_deleted_environment_can_be_made_again(daemon: Daemon, tiny: str) -> None:
    daemon.completed(daemon.submit(specification(tiny, "phoenix")))
    assert daemon.request("DELETE", "/environment/default/phoenix/").status_code == 200
    listed = daemon.request("GET", "/environment/?name=phoenix").json()
    assert listed["count"] == 0
    eventually(lambda: daemon.post(specification(tiny, "phoenix")).status_code == 200)
    found = daemon.data_of("/environment/default/phoenix/")
    daemon.completed(found["current_build_id"])
    assert (daemon.link("phoenix") / "share" / "harmless").exists()


@pytest.mark.parametrize("version", [1, 2, 3])
def test_build_keys(tmp_path: Path, tiny: str, version: int) -> None:
    with running(tmp_path / "data", f"--CondaStore.build_key_version={version}") as daemon:
        build_id = daemon.submit(specification(tiny, "keyed"))
        build = daemon.completed(build_id)
        artifacts = {row["artifact_type"]: row["key"] for row in build["build_artifacts"]}
        prefix = Path(artifacts["DIRECTORY"])
        key = prefix.name
        sha256 = build["specification"]["sha256"]
        assert prefix.is_dir()
        assert artifacts["LOGS"] == f"logs/{key}.log"
        assert artifacts["LOCKFILE"] == f"lockfile/{key}.yml"
        assert artifacts["YAML"] == f"yaml/{key}.yml"
        if version == 1:
            assert key.startswith(f"{sha256}-")
            assert key.endswith(f"-{build_id}-keyed")
        if version == 2:
            assert key.startswith(f"{sha256[:8]}-")
            assert key.endswith(f"-{build_id}-keyed")
        if version == 3:
            assert prefix.parent == daemon.store
            assert len(key) == 32
            assert not daemon.link("keyed").is_symlink()
        else:
            assert prefix.parent == daemon.store / "default"
            assert os.readlink(daemon.link("keyed")) == str(prefix)
        assert daemon.request("GET", f"/build/{build_id}/logs/").text
        assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200
        eventually(lambda: not prefix.exists())
        assert_becomes_clean(daemon)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_owner_and_permissions(tmp_path: Path, tiny: str) -> None:
    options = ["default_uid=1234", "default_gid=2345", "default_permissions=750"]
    arguments = [f"--CondaStore.{option}" for option in options]
    with running(tmp_path / "data", *arguments) as daemon:
        daemon.completed(daemon.submit(specification(tiny, "owned")))
        prefix = daemon.link("owned").resolve()
        for path in (prefix, prefix / "share", prefix / "conda-meta"):
            status = path.lstat()
            assert (status.st_uid, status.st_gid) == (1234, 2345), path
            assert stat.S_IMODE(status.st_mode) == 0o750, path


def readable_by_all(directory: Path) -> Iterator[Path]:
    """Yields what other accounts can open below a directory that they can enter."""
    for path in directory.iterdir():
        mode = path.lstat().st_mode
        if mode & stat.S_IROTH and not stat.S_ISLNK(mode):
            yield path
        if stat.S_ISDIR(mode) and mode & stat.S_IXOTH:
            yield from readable_by_all(path)


def test_other_accounts_hold_no_lock_that_the_daemon_waits_for(daemon: Daemon, tiny: str) -> None:
    """Who may read a file, or a directory, may lock it for as long as he likes."""
    daemon.completed(daemon.submit(specification(tiny, "first")))
    assert daemon.stop() == 0
    readable = list(readable_by_all(daemon.data))
    assert daemon.link("first").parent in readable
    with ExitStack() as stack:
        for path in readable:
            descriptor = os.open(path, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            # A file may have two names.
            with suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        daemon.start()
        daemon.completed(daemon.submit(specification(tiny, "second")))
        assert daemon.link("second").is_dir()


def test_by_default_the_group_may_use_what_is_built(daemon: Daemon, channel: str) -> None:
    daemon.completed(daemon.submit(specification(channel, "shared", "python")))
    prefix = daemon.link("shared").resolve()
    assert stat.S_IMODE(prefix.stat().st_mode) == 0o775
    python = (prefix / "bin" / "python3.11").stat()
    assert python.st_mode & 0o111 == 0o111
    # Shared with the package store, so nobody may write to it.
    assert not python.st_mode & 0o222


def test_variables_are_set_when_it_is_activated(daemon: Daemon, tiny: str) -> None:
    wanted = {**specification(tiny, "variables"), "variables": {"A": 1, "B": "two words"}}
    daemon.completed(daemon.submit(wanted))
    state = (daemon.link("variables") / "conda-meta" / "state").read_text()
    assert '"A": "1"' in state
    assert '"B": "two words"' in state
