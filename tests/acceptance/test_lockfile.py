"""Lockfiles: what was locked is what is built, again and again, byte for byte."""

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

from devtools.localchannel.server import ChannelServer
from tests.acceptance.harness import Daemon
from tests.wheels import add_wheel


def text_of(daemon: Daemon, build_id: int) -> str:
    response = daemon.request("GET", f"/build/{build_id}/lockfile/")
    assert response.status_code == 200
    return response.text


def post_lockfile(daemon: Daemon, text: str, name: str, **fields: Any) -> int:
    return daemon.submit(text, is_lockfile=True, environment_name=name, **fields)


def packages(daemon: Daemon, build_id: int) -> set[tuple[str, str, str]]:
    rows = daemon.data_of(f"/build/{build_id}/packages/")
    return {(row["name"], row["version"], row["channel"]["name"]) for row in rows}


def output(daemon: Daemon, name: str, code: str) -> str:
    command = [str(daemon.link(name) / "bin" / "python"), "-I", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_lockfile_builds_the_same_and_comes_back_byte_for_byte(
    shared_daemon: Daemon, channel: str
) -> None:
    daemon = shared_daemon
    wanted = {"name": "original", "channels": [channel], "dependencies": ["python", "flask <3"]}
    original = daemon.submit(wanted)
    daemon.completed(original)
    text = text_of(daemon, original)
    locked = json.loads(text)
    assert {package["manager"] for package in locked["package"]} == {"conda"}
    assert all(package["hash"]["sha256"] for package in locked["package"])

    copy = post_lockfile(daemon, text, "copy", environment_description="as locked")

    build = daemon.completed(copy)
    assert text_of(daemon, copy) == text
    assert packages(daemon, copy) == packages(daemon, original)
    assert build["specification"]["spec"] == {
        "name": "copy",
        "description": "as locked",
        "lockfile": locked,
    }
    assert daemon.data_of("/environment/default/copy/")["description"] == "as locked"
    assert output(daemon, "copy", "import flask; print(flask.__name__)") == "flask"

    rebuilt = daemon.request("PUT", f"/build/{copy}/").json()["data"]["build_id"]
    daemon.completed(rebuilt)
    assert text_of(daemon, rebuilt) == text


def test_the_same_lockfile_twice_costs_hardly_any_space(
    shared_daemon: Daemon, channel: str
) -> None:
    daemon = shared_daemon
    wanted = {"name": "first", "channels": [channel], "dependencies": ["python", "rich"]}
    first = daemon.submit(wanted)
    daemon.completed(first)

    second = post_lockfile(daemon, text_of(daemon, first), "second")

    daemon.completed(second)
    sizes = disk_usage(daemon, "first"), disk_usage(daemon, "second")
    assert sizes[1] < 0.05 * sizes[0]


def disk_usage(daemon: Daemon, name: str) -> int:
    """Returns the bytes of a prefix; its own, when others came before it."""
    paths = [daemon.store / ".pkgs"]
    paths += [daemon.link("first").resolve()] if name == "second" else []
    known = {file.lstat().st_ino for path in paths for file in path.rglob("*")}
    prefix = daemon.link(name).resolve()
    found = {file.lstat().st_ino: file.lstat() for file in prefix.rglob("*") if file.is_file()}
    if name == "second":
        return sum(status.st_size for ino, status in found.items() if ino not in known)
    return sum(status.st_size for status in found.values())


def test_pip_packages_are_locked_with_their_hashes(
    shared_daemon: Daemon, channel: str, wheels: Path, index: str
) -> None:
    daemon = shared_daemon
    wanted = {
        "name": "piped",
        "channels": [channel],
        "dependencies": ["python", {"pip": ["alpha", f"--index-url {index}"]}],
    }
    original = daemon.submit(wanted)
    daemon.completed(original)
    text = text_of(daemon, original)
    pip = {
        package["name"]: package
        for package in json.loads(text)["package"]
        if package["manager"] == "pip"
    }
    assert {name: package["version"] for name, package in pip.items()} == {
        "alpha": "1.0",
        "beta": "2.0",
    }
    for package in pip.values():
        file = wheels / str(package["url"]).rpartition("/")[2]
        assert package["hash"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert output(daemon, "piped", "import beta; print(beta.__version__)") == "2.0"
    exported = daemon.request("GET", f"/build/{original}/yaml/").text
    assert "- pip:\n  - alpha==1.0\n  - beta==2.0\n" in exported.replace("    -", "  -")

    # Something newer does not change what is locked.
    add_wheel(wheels, "beta", "3.0")
    copy = post_lockfile(daemon, text, "piped-again")
    daemon.completed(copy)
    assert text_of(daemon, copy) == text
    assert output(daemon, "piped-again", "import beta; print(beta.__version__)") == "2.0"


def test_a_package_that_changed_since_it_was_locked_is_refused(
    shared_daemon: Daemon, server: ChannelServer
) -> None:
    daemon = shared_daemon
    wanted = {"name": "unchanged", "channels": [server.url], "dependencies": ["python_abi"]}
    original = daemon.submit(wanted)
    daemon.completed(original)
    locked = json.loads(text_of(daemon, original))
    (package,) = locked["package"]
    package["hash"] = {"md5": "0" * 32, "sha256": "1" * 64}
    build = daemon.ended(post_lockfile(daemon, json.dumps(locked), "changed"))
    assert build["status"] == "FAILED"
    assert "python_abi" in build["status_info"]
    assert "sha256" in build["status_info"]
    assert build["status_info"] in daemon.log(build["id"])


def test_a_lockfile_for_other_platforms_only_is_refused_with_a_reason(
    shared_daemon: Daemon, tiny: str
) -> None:
    wanted = {"name": "here", "channels": [tiny], "dependencies": ["harmless"]}
    original = shared_daemon.submit(wanted)
    shared_daemon.completed(original)
    locked = json.loads(text_of(shared_daemon, original))
    locked["metadata"]["platforms"] = ["osx-arm64"]
    locked["package"][0]["platform"] = "osx-arm64"
    answer = shared_daemon.post(json.dumps(locked), is_lockfile=True, environment_name="elsewhere")
    assert answer.status_code == 400
    assert answer.json()["message"].endswith(", but for osx-arm64")
