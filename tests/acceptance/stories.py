"""What users have a daemon do that may die or fail meanwhile: a story for each fault point."""

import ast
import http.server
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import condastore
from devtools.localchannel.hostile import write_hostile
from tests.acceptance.harness import ENDED, Daemon, eventually
from tests.acceptance.images import (
    artifact,
    assert_every_blob_is_stored,
    image_digest,
    layers,
)
from tests.patience import pauses
from tests.wheels import add_wheel, served, write_index

T = TypeVar("T")
SOURCES = Path(condastore.__file__).parent
PHASES = ["solve", "fetch", "link", "bytecode", "pip", "permissions", "export"]
STORY_S = 300.0
# Python where its files matter; where not, a package that is built in a moment.
WITH_PYTHON = ("phase.link", "phase.bytecode", "phase.pip", "engine.pip_installed")
REMOVED = ["build", "environment", "namespace"]

# What nothing needs when something is deleted goes at once. Without a grace, nothing may be
# collected while images are being put there, so not regularly.
AT_ONCE = (
    "--ContainerRegistry.blob_grace=0",
    "--ContainerRegistry.unknown_blob_grace=0",
    "--ContainerRegistry.pull_grace=0",
    "--ContainerRegistry.layer_cache_bytes=0",
)


def fault_points() -> list[str]:
    """Returns every fault point in the sources, so that a new one is tested without further ado."""
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "fault" and node.args:
                match node.args[0]:
                    case ast.Constant(value=str(point)):
                        found.add(point)
                    case ast.JoinedStr(values=[ast.Constant(value=str(start)), *_]):
                        found.update(f"{start}{phase}" for phase in PHASES)
                    case other:
                        raise AssertionError(f"{path}: which points is {ast.unparse(other)}?")
    return sorted(found)


POINTS = fault_points()
# Passed before a daemon serves, so in no story: test_upgrade.py dies there.
OF_UPGRADES = [point for point in POINTS if point.startswith("upgrade.")]


@contextmanager
def stopped(data: Path, *arguments: str, daemons: type[Daemon] = Daemon) -> Iterator[Daemon]:
    """A daemon that the test starts itself, as often as it likes."""
    daemon = daemons(data, *arguments)
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        daemon.client.close()


def specification(channel: str, *packages: str) -> dict[str, Any]:
    """Returns the specification of the environment of most stories."""
    return {"name": "survivor", "channels": [channel], "dependencies": packages or ["python"]}


def dies(daemon: Daemon) -> None:
    """Waits until a fault point has killed the daemon, and its children are gone as well."""
    assert daemon.wait() == -signal.SIGKILL
    eventually(lambda: not daemon.processes(), what=daemon.processes)


def assert_nothing_half_built_is_visible(daemon: Daemon) -> None:
    """Looks at the dead daemon's disk: a link names a recorded prefix or is not there."""
    recorded = {
        key
        for (key,) in daemon.query("SELECT key FROM build_artifact WHERE artifact_type='DIRECTORY'")
    }
    link = daemon.link("survivor")
    if link.is_symlink():
        assert os.readlink(link) in recorded
        assert link.is_dir()


@dataclass(frozen=True)
class Channels:
    """URLs of what environments are made of: see the fixtures of these names."""

    tiny: str
    small: str
    index: str


@contextmanager
def channels(directory: Path, small: Path) -> Iterator[Channels]:
    """Makes them where no fixtures are; `small` is that channel's directory."""
    write_hostile(directory / "tiny", directory / "outside", bomb_megabytes=1)
    wheels = directory / "wheels"
    wheels.mkdir()
    add_wheel(wheels, "alpha", "1.0", [])
    write_index(wheels)
    with served(wheels, _Quiet) as url:
        yield Channels((directory / "tiny").as_uri(), small.as_uri(), f"{url}/simple")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Refused(Exception):
    """The daemon said why it did not do what was asked of it."""


class Story:
    """What somebody wants of a daemon; told on after a crash, it repeats no accepted request."""

    options: tuple[str, ...] = ()
    has_past = False
    """Whether there is something to `prepare`."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self._acknowledged: dict[str, Any] = {}

    def prepare(self, daemon: Daemon) -> None:
        """Does what has happened before, under a daemon without a fault."""

    def tell(self, daemon: Daemon) -> None:
        """Asks for it and waits until it is done and right. Raises `Refused`."""
        raise NotImplementedError

    def once(self, request: str, send: Callable[[], T]) -> T:
        """Sends a request, unless it was acknowledged before; returns what came of it."""
        if request not in self._acknowledged:
            self._acknowledged[request] = send()
        found: T = self._acknowledged[request]
        return found

    def ask(self, daemon: Daemon, method: str, path: str) -> None:
        """Sends a request that must be accepted, once."""

        def send() -> None:
            answer = daemon.request(method, path)
            if answer.status_code != 200:
                raise Refused(f"{answer.status_code} {answer.json()['message']}")

        self.once(f"{method} {path}", send)

    def built(self, daemon: Daemon, wanted: dict[str, Any]) -> int:
        """Has something built; returns the build's id."""

        def submit() -> int:
            answer = daemon.post(wanted)
            if answer.status_code != 200:
                raise Refused(f"{answer.status_code} {answer.text}")
            found: int = answer.json()["data"]["build_id"]
            return found

        build_id = self.once(wanted["name"], submit)
        build = daemon.ended(build_id)
        if build["status"] == "FAILED":
            raise Refused(f"build FAILED: {build['status_info']}")
        assert build["status"] == "COMPLETED", build
        return build_id

    def made(self, daemon: Daemon, build_id: int, form: str) -> None:
        """Has a form of a build made."""
        self.ask(daemon, "POST", f"/build/{build_id}/artifacts/{form}/")
        for _ in pauses(STORY_S):
            rows = daemon.data_of(f"/build/{build_id}/artifacts/")
            found = next(row for row in rows if row["artifact_type"] == form)
            if found["state"] == "READY":
                return
            if found["state"] == "FAILED":
                raise Refused(f"{form} FAILED: {found['error']}")
            assert found["state"] in ("QUEUED", "RUNNING"), found
        raise TimeoutError(f"{form} of build {build_id} is {found}")


class BuildStory(Story):
    """An environment is built."""

    def wanted(self) -> dict[str, Any]:
        return specification(self.channels.tiny, "harmless")

    def tell(self, daemon: Daemon) -> None:
        build_id = self.built(daemon, self.wanted())
        artifacts = {
            row["artifact_type"]: row["key"] for row in daemon.build(build_id)["build_artifacts"]
        }
        assert sorted(artifacts) == ["DIRECTORY", "LOCKFILE", "LOGS", "YAML"]
        assert os.readlink(daemon.link("survivor")) == artifacts["DIRECTORY"]
        assert daemon.log(build_id).endswith("\n")
        if self.wanted()["dependencies"] == ("harmless",):
            assert (daemon.link("survivor") / "share/harmless").read_text() == "attacked"


class SubmitStory(Story):
    """An environment is built; whoever was not answered asks again, and may have two builds."""

    def tell(self, daemon: Daemon) -> None:
        self.built(daemon, specification(self.channels.tiny, "harmless"))
        for build in daemon.data_of("/build/"):
            daemon.completed(build["id"])
        assert daemon.link("survivor").is_dir()


class PythonStory(BuildStory):
    """One with Python and a package from an index, which has every phase."""

    def wanted(self) -> dict[str, Any]:
        pip = {"pip": ["alpha", f"--index-url {self.channels.index}"]}
        return {**specification(self.channels.small), "dependencies": ["python", pip]}


class ArchiveStory(Story):
    """An archive of an environment is made."""

    def tell(self, daemon: Daemon) -> None:
        build_id = self.built(daemon, specification(self.channels.tiny, "harmless"))
        self.made(daemon, build_id, "CONDA_PACK")
        answer = daemon.request("GET", f"/build/{build_id}/archive/", follow_redirects=True)
        assert answer.status_code == 200


class ImageStory(Story):
    """Images of two environments that are the same are made."""

    def tell(self, daemon: Daemon) -> None:
        wanted = specification(self.channels.tiny, "harmless")
        builds = [self.built(daemon, {**wanted, "name": name}) for name in ("one", "two")]
        for build_id in builds:
            self.made(daemon, build_id, "DOCKER_MANIFEST")
        assert_every_blob_is_stored(daemon)
        digests = daemon.query("SELECT DISTINCT manifest_digest FROM image")
        assert len(digests) == 1, digests
        assert artifact(daemon, builds[0])["state"] == "READY"


class RemovalStory(Story):
    """A build, an environment and a namespace are deleted."""

    def tell(self, daemon: Daemon) -> None:
        for what in REMOVED:
            name = f"removed-{what}"
            if f"gone {what}" in self._acknowledged:
                continue
            self._remove(daemon, what, name)
            self._acknowledged[f"gone {what}"] = True

    def _remove(self, daemon: Daemon, what: str, name: str) -> None:
        namespace = "passing" if what == "namespace" else "default"
        wanted = {**specification(self.channels.tiny, "harmless"), "name": name}
        if what == "namespace":
            self.once("namespace", lambda: daemon.request("POST", f"/namespace/{namespace}/"))
        build_id = self.once(name, lambda: daemon.submit(wanted, namespace=namespace))
        paths = {
            "build": f"/build/{build_id}/",
            "environment": f"/environment/default/{name}/",
            "namespace": f"/namespace/{namespace}/",
        }
        if f"DELETE {paths[what]}" not in self._acknowledged:
            build = daemon.request("GET", f"/build/{build_id}/")
            # The reply to its deletion may have been lost.
            if build.status_code == 200 and build.json()["data"]["status"] != "COMPLETED":
                assert daemon.ended(build_id)["status"] in ENDED
        self._delete(daemon, paths[what])
        if what == "build":
            eventually(lambda: daemon.build(build_id)["size"] == 0)
        else:
            eventually(lambda: daemon.request("GET", f"/build/{build_id}/").status_code == 404)
        assert not daemon.link(name, namespace).is_symlink()

    def _delete(self, daemon: Daemon, path: str) -> None:
        def send() -> None:
            answer = daemon.request("DELETE", path)
            if answer.status_code not in (200, 404):
                raise Refused(f"{answer.status_code} {answer.json()['message']}")

        self.once(f"DELETE {path}", send)


class CollectionStory(Story):
    """A build is deleted, and what its image alone needed goes with it."""

    options = AT_ONCE
    has_past = True

    def __init__(self, channels: Channels) -> None:
        super().__init__(channels)
        self._going = 0
        self._own: set[str] = set()

    def prepare(self, daemon: Daemon) -> None:
        staying = specification(self.channels.tiny, "harmless")
        going = {**staying, "name": "going", "variables": {"GOING": uuid.uuid4().hex}}
        for wanted in (staying, going):
            self._going = self.built(daemon, wanted)
            self.made(daemon, self._going, "DOCKER_MANIFEST")
            shared, self._own = self._own, set(layers(daemon, image_digest(daemon, self._going)))
        self._own -= shared
        assert self._own

    def tell(self, daemon: Daemon) -> None:
        self.ask(daemon, "DELETE", f"/build/{self._going}/")
        eventually(lambda: self._is_collected(daemon), what=lambda: blobs(daemon))
        assert_every_blob_is_stored(daemon)

    def _is_collected(self, daemon: Daemon) -> bool:
        # One that died is not waited for.
        assert daemon.request("GET", "/").status_code == 200
        known = {digest for (digest,) in daemon.query("SELECT digest FROM blob")}
        return known == blobs(daemon) and not known & self._own


def blobs(daemon: Daemon) -> set[str]:
    """Returns the blobs that the storage has."""
    folder = daemon.data / "storage/blobs/sha256"
    return {f"sha256:{path.name}" for path in folder.rglob("*") if path.is_file()}


def story_of(point: str) -> type[Story]:
    """Returns the story that passes a fault point."""
    families: dict[str, type[Story]] = {
        "submit": SubmitStory,
        "build": BuildStory,
        "phase": PythonStory if point in WITH_PYTHON else BuildStory,
        "engine": PythonStory if point in WITH_PYTHON else BuildStory,
        "artifact": ArchiveStory,
        "image": ImageStory,
        "remove": RemovalStory,
        "collect": CollectionStory,
    }
    return families[point.partition(".")[0]]
