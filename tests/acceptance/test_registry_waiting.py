"""Images that are made when they are pulled, and images on demand (oci-registry §8, case 26).

Another daemon, which the tests play, seems to make the images, so that they are made when it suits.
"""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from condastore.dynamic_images import environment_name
from condastore.tables import TaskState
from devtools.localchannel.server import ChannelServer, Fault, serve
from tests.acceptance.harness import Daemon, eventually, get, running
from tests.acceptance.registry import Content, Puller, assert_refused
from tests.channels import write_channel
from tests.images import image
from tests.patience import PATIENCE_S, is_quick

HOLD_S = 1
MAX_REDIRECTS = 3
DYNAMIC = "conda-store-dynamic"
METHODS = ("GET", "HEAD")


@dataclass(frozen=True)
class Scene:
    """A daemon with short slices, and its channel."""

    daemon: Daemon
    content: Content
    channel: ChannelServer
    puller: Puller
    """Somebody who may do everything."""

    def tasks(self, build_id: int) -> list[Any]:
        sql = f"SELECT state FROM task WHERE kind = 'image' AND build_id = {build_id} ORDER BY id"
        return [state for (state,) in self.daemon.query(sql)]

    def builds(self, environment: str) -> list[int]:
        sql = (
            "SELECT build.id FROM build JOIN environment ON environment.id = environment_id "
            f"WHERE environment.name = '{environment}' ORDER BY build.id"
        )
        return [build_id for (build_id,) in self.daemon.query(sql)]

    def pull(self, name: str, method: str = "GET", tag: str = "latest") -> httpx.Response:
        """Asks for a manifest as clients do: redirects are followed, and waits are not the end."""
        self.puller.client.follow_redirects = True
        while True:
            answer = self.puller.request(method, f"{name}/manifests/{tag}")
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return answer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, hostile_directory: Path) -> Iterator[Scene]:
    data = tmp_path_factory.mktemp("registry-waiting") / "data"
    with serve(hostile_directory) as channel:
        options = [
            f"--ContainerRegistry.hold_time={HOLD_S}",
            f"--ContainerRegistry.max_redirects={MAX_REDIRECTS}",
            f"--CondaStore.conda_default_channels={channel.url}",
            "--CondaStore.repodata_ttl=0",
        ]
        with (
            running(data, *options) as daemon,
            Puller(daemon, daemon.token) as puller,
        ):
            yield Scene(daemon, Content(daemon), channel, puller)


@contextmanager
def held_solves(channel: ChannelServer) -> Iterator[threading.Event]:
    """Until the event is set, the test has time to play another daemon: no build is done."""
    released = threading.Event()
    channel.faults["*repodata*"] = Fault(until=released)
    try:
        yield released
    finally:
        released.set()
        channel.faults.clear()


def test_26_a_pull_waits_while_the_image_is_made(scene: Scene) -> None:
    made = image({"x": b"waited"})
    build_id = scene.content.build("default", "slow")
    scene.content.add_task(build_id, TaskState.RUNNING)
    # It is held for a slice, and then sent to itself.
    scene.puller.client.follow_redirects = False
    assert scene.puller.manifest("default/slow", "latest").status_code == 307
    with ThreadPoolExecutor() as pool:
        pulling = pool.submit(scene.pull, "default/slow")
        time.sleep(HOLD_S / 2)
        assert not pulling.done()
        scene.content.give(build_id, made)
        scene.content.end_task(build_id, TaskState.DONE)
        answer = pulling.result(PATIENCE_S)
    assert answer.content == made.body
    assert scene.tasks(build_id) == ["DONE"]


def test_26_what_takes_too_long_is_for_later(scene: Scene) -> None:
    build_id = scene.content.build("default", "endless")
    scene.content.add_task(build_id, TaskState.RUNNING)
    scene.puller.client.follow_redirects = False
    path = "default/endless/manifests/latest"
    for hop in range(1, MAX_REDIRECTS + 1):
        began = time.monotonic()
        answer = scene.puller.get(path)
        assert HOLD_S * 0.9 < time.monotonic() - began < PATIENCE_S
        assert answer.status_code == 307
        location = answer.headers["location"]
        assert location == f"/v2/default/endless/manifests/latest?hop={hop}"
        path = location.removeprefix("/v2/")
    answer = scene.puller.get(path)
    message = assert_refused(answer, 429, "TOOMANYREQUESTS")
    assert message.startswith(f"the image of build {build_id} is RUNNING")
    assert int(answer.headers["retry-after"]) > 0
    scene.content.end_task(build_id, TaskState.CANCELED)


@pytest.mark.parametrize("hop", ["x", "-1", "9" * 100, "", "1e3"])
def test_26_odd_hops(scene: Scene, hop: str) -> None:
    build_id = scene.content.build("default", "odd", image({"x": b"odd"}))
    assert build_id
    answer = scene.puller.get(f"default/odd/manifests/latest?hop={hop}")
    assert answer.status_code == 200


def test_26_a_head_has_it_made(scene: Scene) -> None:
    build_id = scene.content.build("default", "head")
    scene.puller.client.follow_redirects = False
    scene.puller.request("HEAD", "default/head/manifests/latest")
    assert len(scene.tasks(build_id)) == 1


def test_26_by_digest_nobody_waits(scene: Scene) -> None:
    build_id = scene.content.build("default", "digest")

    def attempt() -> float:
        began = time.monotonic()
        answer = scene.puller.manifest("default/digest", image({"x": b"y"}).digest)
        assert_refused(answer, 404, "MANIFEST_UNKNOWN")
        return time.monotonic() - began

    assert is_quick(attempt, HOLD_S / 2, HOLD_S)
    assert scene.tasks(build_id) == []


def test_26_an_image_that_failed_is_not_tried_by_every_pull(scene: Scene) -> None:
    build_id = scene.content.build("default", "failed")
    reason = "there is no layer for x\n" + "more\n" * 100
    scene.content.add_task(build_id, TaskState.FAILED, reason)
    for _ in range(3):
        message = assert_refused(scene.pull("default/failed"), 404, "MANIFEST_UNKNOWN")
        assert "could not be made:\nthere is no layer for x\nmore" in message
        assert len(message.splitlines()) < 20
    assert_refused(scene.pull("default/failed", "HEAD"), 404, "MANIFEST_UNKNOWN")
    assert scene.tasks(build_id) == ["FAILED"]


def test_26_whoever_waits_is_told_when_it_fails(scene: Scene) -> None:
    build_id = scene.content.build("default", "failing")
    scene.content.add_task(build_id, TaskState.RUNNING)
    with ThreadPoolExecutor() as pool:
        pulling = [pool.submit(scene.pull, "default/failing") for _ in range(2)]
        time.sleep(0.5)
        scene.content.end_task(build_id, TaskState.FAILED, "no space is left")
        for answer in pulling:
            message = assert_refused(answer.result(), 404, "MANIFEST_UNKNOWN")
            assert message.endswith("no space is left")


def test_26_without_space_nothing_is_made(scene: Scene) -> None:
    build_id = scene.content.build("default", "no-space")
    scene.daemon.request("PUT", "/setting/", json={"storage_threshold": 2**60})
    try:
        message = assert_refused(scene.pull("default/no-space"), 400, "DENIED")
        assert "storage_threshold" in message
        assert_refused(scene.pull(dynamic("no-space")), 400, "DENIED")
    finally:
        scene.daemon.request("PUT", "/setting/", json={"storage_threshold": 0})
    assert scene.tasks(build_id) == []


def test_26_who_leaves_stops_only_his_waiting(scene: Scene) -> None:
    build_id = scene.content.build("default", "left")
    scene.content.add_task(build_id, TaskState.RUNNING)
    for method in METHODS:
        with pytest.raises(httpx.ReadTimeout), httpx.Client(timeout=0.3) as client:
            url = f"{scene.daemon.url}/v2/default/left/manifests/latest"
            client.request(method, url)
    assert scene.tasks(build_id) == ["RUNNING"]
    scene.content.give(build_id, image({"x": b"left"}))
    assert scene.pull("default/left").status_code == 200


# On demand


def dynamic(*components: str) -> str:
    return "/".join([DYNAMIC, *components])


def test_26_an_image_on_demand(scene: Scene) -> None:
    """Two clients at once, in two orders, are one build."""
    made = image({"x": b"on demand"})
    environment = environment_name(["harmless", "harmless >=0.1"])
    names = [dynamic("harmless", "harmless.ge.0.1"), dynamic("harmless.ge.0.1", "harmless")]
    with held_solves(scene.channel) as released, ThreadPoolExecutor() as pool:
        pulling = [
            pool.submit(scene.pull, name, method)
            for name, method in zip(names, METHODS, strict=True)
        ]
        eventually(lambda: scene.builds(environment))
        (build_id,) = scene.builds(environment)
        scene.content.add_task(build_id, TaskState.RUNNING)
        released.set()
        scene.daemon.completed(build_id)
        scene.content.give(build_id, made)
        scene.content.end_task(build_id, TaskState.DONE)
        get, head = (answer.result() for answer in pulling)
    assert get.content == made.body
    assert head.headers["docker-content-digest"] == made.digest
    assert scene.builds(environment) == [build_id]
    shown = scene.daemon.build(build_id)
    assert shown["specification"]["spec"]["dependencies"] == ["harmless", "harmless >=0.1"]
    assert "exclude_newer" not in shown["specification"]["spec"]
    for name in names:
        tags = scene.puller.get(f"{name}/tags/list").json()
        assert tags["name"] == name
        assert {"latest", str(build_id)} <= set(tags["tags"])
        assert scene.puller.manifest(name, str(build_id)).content == made.body
        assert scene.puller.blob(name, next(iter(made.blobs))).status_code == 200
    # Under the name of its environment it is one like others.
    assert scene.puller.manifest(dynamic(environment), "latest").content == made.body


def test_26_what_can_not_be_solved_says_why(scene: Scene) -> None:
    for _ in range(2):
        answer = scene.pull(dynamic("harmless.ge.99"))
        message = assert_refused(answer, 404, "MANIFEST_UNKNOWN")
        assert "harmless >=99" in message
    environment = environment_name(["harmless >=99"])
    assert len(scene.builds(environment)) == 1
    assert scene.daemon.build(scene.builds(environment)[0])["status"] == "FAILED"


def test_26_the_past_is_solved_as_it_was(scene: Scene) -> None:
    tag = "before-2020-01-01"
    answer = scene.pull(dynamic("harmless"), tag=tag)
    message = assert_refused(answer, 404, "MANIFEST_UNKNOWN")
    assert "harmless" in message
    (build_id,) = scene.builds(f"{environment_name(['harmless'])}-{tag}")
    shown = scene.daemon.build(build_id)
    assert shown["specification"]["spec"]["exclude_newer"] == "2020-01-01"
    assert shown["status"] == "FAILED"


@pytest.mark.parametrize(
    ("path", "status", "code", "said"),
    [
        ("numpy.ge/manifests/latest", 404, "MANIFEST_UNKNOWN", "numpy.ge"),
        ("x.ge.1-/manifests/latest", 400, "NAME_INVALID", "can't be the name"),
        ("conda-forge::x/manifests/latest", 400, "NAME_INVALID", "can't be the name"),
        ("x.eq.1.2.ge.-/manifests/latest", 400, "NAME_INVALID", "can't be the name"),
        ("x.conda/manifests/latest", 400, "NAME_INVALID", "package files"),
        ("/".join("abcdefghijklmnopqrstu") + "/manifests/latest", 400, "NAME_INVALID", "20"),
        ("harmless/manifests/before-2020-13-01", 404, "MANIFEST_UNKNOWN", "YYYY-MM-DD"),
        ("harmless/manifests/before-9999-01-01", 404, "MANIFEST_UNKNOWN", "still to come"),
        ("harmless/manifests/unknown", 404, "MANIFEST_UNKNOWN", "has no unknown"),
        ("harmless/manifests/lock-000000000000", 404, "MANIFEST_UNKNOWN", "has no lock"),
    ],
)
def test_names_and_tags_that_mean_nothing(
    scene: Scene, path: str, status: int, code: str, said: str
) -> None:
    scene.puller.client.follow_redirects = True
    message = assert_refused(scene.puller.get(dynamic(path)), status, code)
    assert said in message


def test_who_may_not_build_has_nothing_built(scene: Scene) -> None:
    before = scene.daemon.query("SELECT count(*) FROM build")
    name = dynamic("evil")
    with Puller(scene.daemon) as anybody:
        assert_refused(anybody.manifest(name, "latest"), 401, "DENIED")
        assert_refused(anybody.get(f"{name}/tags/list"), 401, "DENIED")
    bindings = {f"{DYNAMIC}/*": ["viewer"]}
    token = scene.daemon.request("POST", "/token/", json={"role_bindings": bindings})
    with Puller(scene.daemon, token.json()["data"]["token"]) as viewer:
        assert_refused(viewer.manifest(name, "latest"), 404, "MANIFEST_UNKNOWN")
        # But he sees what others have built.
        scene.content.build(DYNAMIC, environment_name(["seen"]), image({"x": b"seen"}))
        assert viewer.manifest(dynamic("seen"), "latest").status_code == 200
        assert "latest" in viewer.get(f"{dynamic('seen')}/tags/list").json()["tags"]
    assert scene.daemon.query("SELECT count(*) FROM build WHERE status = 'QUEUED'") == [(0,)]
    assert scene.daemon.query("SELECT count(*) FROM build")[0][0] == before[0][0] + 1


def test_skopeo_can_inspect_what_is_not_there_yet(scene: Scene) -> None:
    answer = scene.puller.get(f"{dynamic('never-pulled')}/tags/list")
    assert answer.json() == {"name": dynamic("never-pulled"), "tags": ["latest"]}


def test_nobody_fills_the_queue(scene: Scene) -> None:
    with held_solves(scene.channel):
        scene.puller.client.follow_redirects = False
        answers = []
        with ThreadPoolExecutor(8) as pool:
            names = [dynamic(f"queued-{number}") for number in range(6)]
            paths = [f"{name}/manifests/latest" for name in names]
            answers = list(pool.map(scene.puller.get, paths))
        statuses = sorted(answer.status_code for answer in answers)
        assert statuses == [307] * 4 + [429] * 2
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert "4 images on demand" in assert_refused(refused, 429, "TOOMANYREQUESTS")
    active = "SELECT count(*) FROM build WHERE status IN ('QUEUED', 'BUILDING')"
    eventually(lambda: scene.daemon.query(active) == [(0,)])


def test_latest_is_solved_anew_after_a_while(tmp_path: Path, hostile_directory: Path) -> None:
    with (
        serve(hostile_directory) as channel,
        running(
            tmp_path / "data",
            "--ContainerRegistry.on_demand_lifetime=0.5",
            f"--CondaStore.conda_default_channels={channel.url}",
            "--CondaStore.repodata_ttl=0",
        ) as daemon,
        Puller(daemon, daemon.token) as puller,
    ):
        scene = Scene(daemon, Content(daemon), channel, puller)
        environment = environment_name(["harmless"])
        digests = []
        for number in (1, 2):
            made = image({"x": str(number).encode()})
            with held_solves(channel) as released, ThreadPoolExecutor() as pool:
                pulling = pool.submit(scene.pull, dynamic("harmless"))
                eventually(lambda: len(scene.builds(environment)) == number)  # noqa: B023
                build_id = scene.builds(environment)[-1]
                scene.content.add_task(build_id, TaskState.RUNNING)
                released.set()
                daemon.completed(build_id)
                scene.content.give(build_id, made)
                scene.content.end_task(build_id, TaskState.DONE)
                digests.append(pulling.result().headers["docker-content-digest"])
            time.sleep(0.6)
        assert len(set(digests)) == 2
        # The older one is still there for whoever has its digest.
        for digest in digests:
            assert puller.manifest(dynamic("harmless"), digest).status_code == 200


def test_it_can_be_turned_off(tmp_path: Path) -> None:
    options = ["--ContainerRegistry.on_demand=False"]
    with running(tmp_path / "data", *options) as daemon, Puller(daemon, daemon.token) as puller:
        assert_refused(puller.manifest(dynamic("a", "b"), "latest"), 404, "NAME_UNKNOWN")
        assert_refused(puller.manifest(dynamic("a"), "latest"), 404, "NAME_UNKNOWN")
        assert daemon.query("SELECT count(*) FROM build") == [(0,)]


def test_the_registry_can_be_turned_off(tmp_path: Path) -> None:
    options = ["--CondaStoreServer.enable_registry=False"]
    with running(tmp_path / "data", *options) as daemon:
        for path in ("/v2/", "/registry/token", "/v2/default/env/tags/list"):
            assert get(daemon.url + path).status_code == 404


def test_a_package_that_no_channel_has_is_refused_at_once(tmp_path: Path) -> None:
    write_channel(tmp_path / "channel", harmless=["1.0"])
    channel = (tmp_path / "channel").as_uri()
    config = tmp_path / "config.py"
    config.write_text(f"c.CondaStore.conda_indexed_channels = [{channel!r}]\n")
    options = [
        f"--config={config}",
        f"--CondaStore.conda_default_channels={channel}",
        "--CondaStoreWorker.index_interval=900",
    ]
    with running(tmp_path / "data", *options) as daemon, Puller(daemon, daemon.token) as puller:
        updated = "SELECT count(*) FROM conda_channel WHERE last_update IS NOT NULL"
        eventually(lambda: daemon.query(updated) == [(1,)])
        for method in METHODS:
            answer = puller.request(method, f"{dynamic('harmlses.ge.0.1')}/manifests/latest")
            message = assert_refused(answer, 404, "NAME_UNKNOWN")
            assert method == "HEAD" or "harmlses; did you mean harmless?" in message
        answer = puller.manifest(dynamic("harmless", "nothing-like-it"), "before-2026-01-31")
        message = assert_refused(answer, 404, "NAME_UNKNOWN")
        assert message.startswith("there is no package nothing-like-it (channels: file:")
        assert daemon.query("SELECT count(*) FROM build") == [(0,)]
        # A channel that is not indexed may have it: the solver says.
        other = daemon.request(
            "PUT", "/setting/", json={"conda_default_channels": [channel, f"{channel}/other"]}
        )
        assert other.status_code == 200, other.text
        puller.client.follow_redirects = False
        puller.manifest(dynamic("nothing-like-it"), "latest")
        assert daemon.query("SELECT count(*) FROM build") == [(1,)]
