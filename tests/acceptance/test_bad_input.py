"""What is wrong is told clearly, in the right place, and leaves no files (issue 2, "Bad input")."""

import hashlib
import json
import os
import re
import shlex
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.server import ChannelServer, Fault, serve
from tests.acceptance.harness import FOREVER_S, Daemon, assert_becomes_clean, eventually, running
from tests.mounts import mounted

MEBIBYTE = 2**20
LEAST_MEMORY = 4 * 2**30
INVALID = "Unable to parse. Invalid YAML"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    data = tmp_path_factory.mktemp("bad") / "data"
    with running(data, "--CondaStore.max_package_bytes=33554432") as found:
        yield found


def specification(channel: str, *packages: str, **fields: Any) -> dict[str, Any]:
    return {"name": "broken", "channels": [channel], "dependencies": packages, **fields}


def reason(daemon: Daemon, build_id: int) -> str:
    """Returns why a build failed, which its log says as well; it left nothing."""
    build = daemon.ended(build_id)
    assert build["status"] == "FAILED", daemon.log(build_id)
    found: str = build["status_info"]
    assert found
    assert daemon.log(build_id).endswith(f"build failed: {found}\n")
    assert build["ended_on"] is not None
    assert build["size"] == 0
    assert daemon.prefixes() == []
    assert not daemon.link("broken").is_symlink()
    assert_becomes_clean(daemon)
    assert "Traceback" not in daemon.output.read_text()
    return found


# At the edge


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [unclosed", INVALID),
        ("name: x\n\tdependencies: []", INVALID),
        ("name: x\nname: y", "twice"),
        ("a: &a [x]\nname: x\ndependencies: *a", "not supported"),
        ("name: !!python/object:os.system x", "tags are not supported"),
        ("name: x\n---\nname: y", "more than one document"),
        ("name: x\ndependencies: " + "[" * 5000 + "]" * 5000, "nest"),
        ('{"name": "x", "dependencies": ' + "[" * 5000 + "]" * 5000 + "}", "nest"),
        ("name: x\ndescription: " + "y" * MEBIBYTE, "larger than 1048576 bytes"),
        ("", "model_attributes_type"),
        ("- name\n- x", "model_attributes_type"),
        ("just text", "model_attributes_type"),
        ("dependencies: []", "Field required (type=missing, loc=('name',))"),
        ("name: null", "Input should be a valid string (type=string_type, loc=('name',))"),
        ("name: a/b", "String should match pattern"),
        ("name: ..", "should not start with '.'"),
        ("name: x\nchannels: [null]", "loc=('channels', 0)"),
        ("name: x\nchannels: ['ftp://example.org/c']", "should have one of the schemes"),
        ("name: x\nchannels: ['https://u:secret@example.org/c']", "contains credentials"),
        ("name: x\ndependencies: ['numpy >>>> 1']", "Invalid conda package dependency"),
        ("name: x\ndependencies: ['*']", "Invalid conda package dependency"),
        ("name: x\ndependencies: ['https://example.org/x.conda']", "not supported"),
        ("name: x\ndependencies: [{pip: ['--pre x']}]", "Invalid pip option"),
        ("name: x\ndependencies: [{pip: ['-r /etc/passwd']}]", "Invalid pip option"),
        ("name: x\ndependencies: [{pip: ['not a requirement']}]", "Invalid pypi package"),
        ("name: x\ndependencies: [{pip: ['x @ file:///etc/passwd']}]", "schemes"),
        ("name: x\nvariables: [a]", "valid dictionary"),
        ("name: \x00", INVALID),
    ],
)
def test_a_specification_that_cannot_be_used_is_refused(
    daemon: Daemon, text: str, message: str
) -> None:
    before = daemon.query("SELECT count(*) FROM build")
    answer = daemon.post(text)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["status", "message"]
    assert message in answer.json()["message"]
    assert "secret" not in answer.text
    assert daemon.query("SELECT count(*) FROM build") == before


def test_a_bomb_of_aliases_costs_nothing(daemon: Daemon) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    began = time.monotonic()
    answer = daemon.post("\n".join(["name: bomb", *lines]))
    assert answer.status_code == 400
    # Written out they would be gigabytes.
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "validation error"),
        ("[]", "validation error"),
        ("{", INVALID),
        ('{"version": 2, "metadata": {}, "package": []}', "validation error"),
    ],
)
def test_a_lockfile_that_cannot_be_used_is_refused(daemon: Daemon, text: str, message: str) -> None:
    answer = daemon.post(text, is_lockfile=True, environment_name="locked")
    assert answer.status_code == 400
    assert message in answer.json()["message"]


def test_too_large_a_body_is_not_even_kept(daemon: Daemon) -> None:
    def body() -> Iterator[bytes]:
        yield b'{"specification": "'
        for _ in range(300):
            yield b"x" * MEBIBYTE

    answer = daemon.request("POST", "/specification/", content=body())
    assert answer.status_code == 413
    assert answer.json()["status"] == "error"


def test_a_full_disk_is_told_before_a_build_is_queued(tmp_path: Path) -> None:
    with running(tmp_path / "data", f"--CondaStore.storage_threshold={2**60}") as daemon:
        answer = daemon.post({"name": "x"})
        assert answer.status_code == 400
        assert answer.json()["message"] == (
            "`CondaStore.storage_threshold` reached. "
            "Action environment:create prevented due to insufficient storage space"
        )
        assert daemon.query("SELECT count(*) FROM environment") == [(0,)]


# Channels


def test_channels_that_are_not_there(daemon: Daemon, tmp_path: Path, server: ChannelServer) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}/channel"
        for channel in (f"file://{tmp_path}/missing", f"{server.url}/missing", nobody):
            found = reason(daemon, daemon.submit(specification(channel, "python")))
            assert channel in found
            assert "Traceback" not in found


PORTAL = Fault(page="<!DOCTYPE html><html><body>Welcome to the guest network</body></html>")


@pytest.mark.parametrize(
    ("pattern", "fault", "told"),
    [
        ("*repodata*", Fault(status=500), "HTTP status 500"),
        ("*repodata*", PORTAL, "may have returned invalid or truncated data"),
        ("*repodata*", Fault(truncate=100, reset=True), "Connection reset by peer"),
        ("*repodata*", Fault(promise=100), "zstd stream did not finish"),
        ("*.conda", Fault(status=404), "is not on the server, or not any more"),
        ("*.conda", PORTAL, "What came is a web page"),
        ("*.conda", Fault(truncate=100, reset=True), "error decoding response body"),
        ("*.conda", Fault(promise=100), "has 100 bytes, expected"),
    ],
    ids=[
        *("list-500", "list-portal", "list-reset", "list-short"),
        *("package-gone", "package-portal", "package-reset", "package-short"),
    ],
)
def test_F44_a_channel_with_trouble(
    daemon: Daemon, hostile_directory: Path, pattern: str, fault: Fault, told: str
) -> None:
    with serve(hostile_directory, faults={pattern: fault}) as server:
        found = reason(daemon, daemon.submit(specification(server.url, "world-writable")))
    assert told in found
    assert server.root in found


def test_F44_a_busy_channel_gets_the_pause_that_it_asks_for(
    daemon: Daemon, hostile_directory: Path
) -> None:
    faults = {
        # More often than what is tried again at once.
        "noarch/*repodata*": Fault(status=503, retry_after="2", times=5),
        "*.conda": Fault(status=429, retry_after="3", times=1),
    }
    with serve(hostile_directory, faults=faults) as server:
        began = time.monotonic()
        build_id = daemon.submit(specification(server.url, "unlisted-file", name="paused"))
        daemon.completed(build_id)
        assert time.monotonic() - began > 2 + 3
    log = daemon.log(build_id)
    assert f"list of channel {server.url}: HTTP status 503. Trying again after 2 s.\n" in log
    assert "unlisted-file-1.0-0.conda): HTTP status 429. Trying again after 3 s.\n" in log
    assert daemon.request("DELETE", "/environment/default/paused/").status_code == 200
    eventually(lambda: daemon.prefixes() == [])


def test_an_unsolvable_specification_is_explained_first(daemon: Daemon, channel: str) -> None:
    build_id = daemon.submit(specification(channel, "flask =3.0", "werkzeug <3", "python"))
    found = reason(daemon, build_id)
    assert "flask" in found
    assert "werkzeug" in found
    lines = daemon.log(build_id).splitlines()
    start = next(number for number, line in enumerate(lines) if found.splitlines()[0] in line)
    assert start < 5


def test_a_package_that_does_not_exist(daemon: Daemon, channel: str) -> None:
    assert "no-such-thing" in reason(daemon, daemon.submit(specification(channel, "no-such-thing")))


# Packages

REFUSED = [
    "absolute-member",
    "dotdot-member",
    "dotdot-paths",
    "absolute-paths",
    "symlink-escape",
    "hardlink-escape",
    "symlink-passwd",
    "symlink-dotdot",
    "content-mismatch",
    "shadow-conda-meta",
    "wrong-sha256",
    "wrong-size",
    "truncated",
    "corrupt",
    "not-a-package",
    "bomb",
]
HARMLESS_IN_THE_END = [
    "activate-script",
    "device",
    "fifo",
    "post-link",
    "setuid",
    "unlisted-file",
    "world-writable",
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_package_fails_its_build_and_does_no_harm(
    daemon: Daemon, tiny: str, hostile_directory: Path, name: str
) -> None:
    found = reason(daemon, daemon.submit(specification(tiny, name)))
    assert name in found
    outside = hostile_directory.parent / "outside"
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"


def test_other_hostile_packages_are_built_without_what_makes_them_hostile(
    tmp_path: Path, tiny: str, hostile_directory: Path
) -> None:
    with running(tmp_path / "data") as daemon:
        builds = {
            name: daemon.submit(specification(tiny, name, name=name))
            for name in HARMLESS_IN_THE_END
        }
        for name, build_id in builds.items():
            daemon.completed(build_id)
            for path in daemon.link(name).resolve().rglob("*"):
                mode = path.lstat().st_mode
                assert path.name != "escaped"
                assert stat.S_ISDIR(mode) or stat.S_ISREG(mode), path
                assert stat.S_ISDIR(mode) or not mode & (stat.S_ISUID | stat.S_ISGID), path
                assert not mode & stat.S_IWOTH, path
    outside = hostile_directory.parent / "outside"
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_download_that_breaks_off_is_told(daemon: Daemon, hostile_directory: Path) -> None:
    broken = {"*harmless*": Fault(truncate=100)}
    with serve(hostile_directory, faults=broken) as server:
        found = reason(daemon, daemon.submit(specification(server.url, "harmless")))
        assert "harmless" in found
        server.faults.clear()
        daemon.completed(daemon.submit(specification(server.url, "harmless", name="fine")))
    assert daemon.request("DELETE", "/environment/default/fine/").status_code == 200
    eventually(lambda: daemon.prefixes() == [])


# Disk


@pytest.mark.parametrize("point", ["build.begun", "build.installed", "build.stored"])
def test_no_space_in_the_daemon(tmp_path: Path, tiny: str, point: str) -> None:
    with running(tmp_path / "data", CONDASTORE_FAULT=f"{point}:1:raise:ENOSPC") as daemon:
        found = reason(daemon, daemon.submit(specification(tiny, "harmless")))
        assert "no space left on the disk" in found
        stored = (daemon.data / "storage").glob("*/*.*")
        assert {path.parent.name for path in stored} == {"logs"}
        daemon.completed(daemon.submit(specification(tiny, "harmless")))


def test_no_space_for_the_link_does_not_undo_a_finished_build(tmp_path: Path, tiny: str) -> None:
    with running(tmp_path / "data", "--CondaStoreWorker.max_attempts=100") as daemon:
        envs = daemon.store / "default" / "envs"
        envs.parent.mkdir(parents=True)
        envs.write_text("in the way")
        build_id = daemon.submit(specification(tiny, "harmless"))
        daemon.completed(build_id)
        assert "warning: the link could not be switched" in daemon.log(build_id)
        envs.unlink()
        eventually(daemon.link("broken").is_dir)


def test_less_space_than_must_stay_free(tmp_path: Path, tiny: str) -> None:
    with running(tmp_path / "data", f"--CondaStore.min_free_bytes={2**60}") as daemon:
        answer = daemon.post(specification(tiny, "harmless"))
        assert answer.status_code == 507
        assert "CondaStore.min_free_bytes" in answer.json()["message"]


def test_a_disk_that_is_really_full(tmp_path: Path, tiny: str) -> None:
    with (
        mounted("tmpfs", tmp_path / "small", 24) as small,
        running(small / "data", "--CondaStore.min_free_bytes=0") as daemon,
    ):
        # 64 MB in a package of a few kB.
        found = reason(daemon, daemon.submit(specification(tiny, "bomb")))
        assert "space" in found
        # What came was put away again, and what fits is built.
        daemon.completed(daemon.submit(specification(tiny, "harmless")))
        (small / "filler").write_bytes(bytes(os.statvfs(small).f_bavail * 4096 - 8192))
        full = daemon.post(specification(tiny, "harmless", description="x" * 60_000))
        assert full.status_code in (200, 507)
        (small / "filler").unlink()
        daemon.completed(daemon.submit(specification(tiny, "harmless")))


# Engines


class Tool:
    """A stand-in for conda that does what a test tells it, and the daemon that uses it."""

    def __init__(self, path: Path, daemon: Daemon) -> None:
        self._path = path
        self.daemon = daemon

    def does(self, *commands: str) -> None:
        self._path.write_text("\n".join(["#!/bin/sh", *commands, ""]))
        self._path.chmod(0o755)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    directory = tmp_path_factory.mktemp("tool")
    options = [f"conda_command={directory / 'conda'}", f"max_build_memory={LEAST_MEMORY}"]
    with running(directory / "data", *(f"--CondaStore.{each}" for each in options)) as found:
        yield Tool(directory / "conda", found)


def test_an_engine_that_is_missing(tool: Tool, tiny: str) -> None:
    found = reason(tool.daemon, tool.daemon.submit(specification(tiny, "harmless")))
    assert "conda' was not found" in found
    assert "conda_command" in found


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        (["kill -SEGV $$"], "conda"),
        (["echo oh dear >&2", "exit 3"], "oh dear"),
        (["echo '{}'"], "conda"),
        (["exec yes"], "printed more than 64 MiB"),
    ],
    ids=["crashes", "fails", "answers-nothing", "prints-without-end"],
)
def test_an_engine_that_misbehaves(
    tool: Tool, tiny: str, commands: list[str], expected: str
) -> None:
    tool.does(*commands)
    build_id = tool.daemon.submit(specification(tiny, "harmless"))
    assert expected in reason(tool.daemon, build_id)
    assert len(tool.daemon.log(build_id)) < 32 * MEBIBYTE


def test_F17_an_engine_that_wants_more_memory_than_there_may_be(
    tool: Tool, hostile_directory: Path
) -> None:
    # Half a GB is written to, which takes as long as it takes; the rest is only reserved.
    program = (
        "kept = [b'x' * 2**29]\n"
        "try:\n while True: kept.append(bytes(2**28))\n"
        "except MemoryError: raise SystemExit('std::bad_alloc')"
    )
    tool.does(f"exec {shlex.quote(sys.executable)} -c {shlex.quote(program)}")
    package = hostile_directory / "noarch/harmless-1.0-0.conda"
    locked = f"@EXPLICIT\n{package.as_uri()}#{hashlib.md5(package.read_bytes()).hexdigest()}\n"
    build_id = tool.daemon.submit(locked, is_lockfile=True, environment_name="broken")
    found = reason(tool.daemon, build_id)
    assert found.startswith("std::bad_alloc\n")
    limit = r"limit 4\.3 GB \(CondaStore\.max_build_memory\), used 0\.[5-7] GB\."
    assert re.search(rf"It ran out of memory: {limit}$", found), found


def test_an_engine_that_complains_without_end(tmp_path: Path, tiny: str) -> None:
    options = [f"conda_command={tmp_path / 'conda'}", "max_build_time=3"]
    with running(tmp_path / "data", *(f"--CondaStore.{each}" for each in options)) as daemon:
        Tool(tmp_path / "conda", daemon).does("exec yes >&2")
        build_id = daemon.submit(specification(tiny, "harmless"))
        assert "it took longer than 3 s" in reason(daemon, build_id)
        assert len(daemon.log(build_id)) < 32 * MEBIBYTE


def test_a_solve_that_takes_too_long(tmp_path: Path, server: ChannelServer) -> None:
    server.faults["*repodata*"] = Fault(delay=FOREVER_S)
    with running(tmp_path / "data", "--CondaStore.conda_max_solve_time=1") as daemon:
        found = reason(daemon, daemon.submit(specification(server.url, "python")))
        assert "1 s" in found


def test_errors_are_json_all_the_way(daemon: Daemon) -> None:
    for content in (b"", b"null", b'"text"', b"[1]", b"\x00"):
        answer = daemon.request("POST", "/specification/", content=content)
        assert answer.status_code in (400, 422)
        json.loads(answer.text)
