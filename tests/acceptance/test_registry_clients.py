"""Real clients of the registry (oci-registry §8, cases 23 to 25); of 13, redirects."""

import http.server
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from condastore.layers import FURTHER_LAYERS, MOST_LAYERS
from tests.acceptance.harness import Daemon, running
from tests.acceptance.redirecting import VARIABLE
from tests.acceptance.registry import Content, Puller
from tests.images import Made, image
from tests.wheels import served

SKOPEO, UMOCI = shutil.which("skopeo"), shutil.which("umoci")
needs_skopeo = pytest.mark.skipif(SKOPEO is None, reason="there is no skopeo on this machine")
needs_umoci = pytest.mark.skipif(UMOCI is None, reason="there is no umoci on this machine")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can enter an unpacked image")
BLOBS = re.compile(
    r"condastore_http_request_duration_seconds_count"
    r'{method="GET",route="/v2/{name}/blobs/{reference}",status="[0-9]xx"} ([0-9.]+)'
)


def shell() -> dict[str, bytes]:
    """Returns the files that this machine's shell needs to run."""
    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True)
    paths = ["/bin/sh", *re.findall(r"(/\S+) \(0x", listed.stdout)]
    return {path.lstrip("/"): Path(path).read_bytes() for path in paths}


@dataclass(frozen=True)
class Scene:
    daemon: Daemon
    content: Content
    elsewhere: list[tuple[str, str | None]]
    """What was asked for from the other server: the path, and the Authorization."""

    def reference(self, name: str, tag: str = "latest") -> str:
        port = self.daemon.url.rpartition(":")[2]
        return f"docker://localhost:{port}/{name}:{tag}"

    def skopeo(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        assert SKOPEO is not None
        return subprocess.run([SKOPEO, *arguments], capture_output=True, text=True)

    def copy(self, name: str, layout: Path, *options: str) -> subprocess.CompletedProcess[str]:
        source, target = self.reference(name), f"oci:{layout}:{name.rpartition('/')[2]}"
        return self.skopeo("copy", "--src-tls-verify=false", *options, source, target)

    def blob_requests(self) -> int:
        text = self.daemon.client.get(f"{self.daemon.url}/metrics").text
        return sum(int(float(count)) for count in BLOBS.findall(text))


@pytest.fixture(scope="module", params=["direct", "redirected"])
def scene(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    data = tmp_path_factory.mktemp("registry-clients") / "data"
    asked: list[tuple[str, str | None]] = []

    class Elsewhere(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            super().do_GET()

    if request.param == "direct":
        with running(data) as daemon:
            yield Scene(daemon, Content(daemon), asked)
        return
    (data / "storage").mkdir(parents=True)
    with served(data / "storage", Elsewhere) as url:
        storage = "--CondaStore.storage_class=tests.acceptance.redirecting.RedirectingStorage"
        with running(data, storage, **{VARIABLE: url}) as daemon:
            yield Scene(daemon, Content(daemon), asked)


def test_13_redirects_are_for_gets_alone(scene: Scene) -> None:
    made = image({"x": b"redirected"})
    scene.content.build("default", "redirects", made)
    digest = made.document["layers"][0]["digest"]
    with Puller(scene.daemon) as puller:
        path = f"default/redirects/blobs/{digest}"
        head = puller.request("HEAD", path)
        assert (head.status_code, head.content) == (200, b"")
        get = puller.get(path, headers={"Range": "bytes=1-2"})
        known = puller.get(path, headers={"If-None-Match": f'"{digest}"'})
        puller.client.follow_redirects = True
        followed = puller.get(path)
    assert known.status_code == 304
    assert followed.content == made.blobs[digest]
    if not followed.history:
        assert get.content == made.blobs[digest][1:3]
        return
    assert get.status_code == 307
    assert get.headers["docker-content-digest"] == digest
    assert get.headers["cache-control"] == "private, no-store"
    assert scene.elsewhere[-1] == (f"/blobs/sha256/{digest[7:9]}/{digest[7:]}", None)


@needs_skopeo
@needs_umoci
@needs_root
def test_23_skopeo_pulls_and_what_umoci_unpacks_runs(scene: Scene, tmp_path: Path) -> None:
    made = image(shell(), {"hello": b"it runs\n"})
    scene.content.build("default", "runs", made)
    copied = scene.copy("default/runs", tmp_path / "layout")
    assert copied.returncode == 0, copied.stderr
    unpack = [UMOCI or "", "unpack", f"--image={tmp_path}/layout:runs", str(tmp_path / "bundle")]
    subprocess.run(unpack, check=True, capture_output=True)
    root, script = str(tmp_path / "bundle/rootfs"), "read x < hello; echo $x"
    ran = subprocess.run(["chroot", root, "/bin/sh", "-c", script], capture_output=True)
    assert ran.stdout == b"it runs\n"
    assert all(authorization is None for _, authorization in scene.elsewhere)


@needs_skopeo
def test_23_skopeo_logs_in(scene: Scene, tmp_path: Path) -> None:
    made = image({"x": b"private"})
    scene.content.build("private", "env", made)
    denied = scene.copy("private/env", tmp_path / "layout")
    assert denied.returncode != 0
    assert "denied" in denied.stderr
    wrong = scene.copy("private/env", tmp_path / "layout", "--src-creds=me:wrong")
    assert wrong.returncode != 0
    assert "unauthorized" in wrong.stderr.lower() or "invalid username" in wrong.stderr.lower()
    copied = scene.copy("private/env", tmp_path / "layout", f"--src-creds=me:{scene.daemon.token}")
    assert copied.returncode == 0, copied.stderr


@needs_skopeo
def test_23_skopeo_inspects(scene: Scene) -> None:
    made = image({"x": b"inspected"})
    scene.content.build("default", "inspected", made)
    reference = scene.reference("default/inspected")
    inspected = scene.skopeo("inspect", "--tls-verify=false", reference)
    assert inspected.returncode == 0, inspected.stderr
    assert f'"Digest": "{made.digest}"' in inspected.stdout
    assert '"latest"' in inspected.stdout
    raw = scene.skopeo("inspect", "--raw", "--tls-verify=false", reference)
    assert raw.stdout.encode() == made.body
    absent = scene.skopeo(
        "inspect", "--tls-verify=false", scene.reference("default/inspected", "x")
    )
    assert "default/inspected has no x" in absent.stderr or "manifest unknown" in absent.stderr


def layered(*names: str) -> Made:
    return image(*({name: name.encode() * 50} for name in names))


@needs_skopeo
def test_24_what_is_shared_is_pulled_once(scene: Scene, tmp_path: Path) -> None:
    scene.content.build("default", "first", layered("a", "b", "c"))
    scene.content.build("default", "second", layered("a", "b", "d"))
    for name, expected in (("first", 4), ("second", 2)):
        before = scene.blob_requests()
        copied = scene.copy(f"default/{name}", tmp_path / "layout")
        assert copied.returncode == 0, copied.stderr
        assert scene.blob_requests() - before == expected


@needs_skopeo
@needs_umoci
@needs_root
def test_25_as_many_layers_as_there_may_be_and_a_dockerfiles_above(
    scene: Scene, tmp_path: Path
) -> None:
    count = MOST_LAYERS - FURTHER_LAYERS - 1
    files = [{f"file{number}": str(number).encode()} for number in range(count)]
    scene.content.build("default", "layered", image(shell(), *files))
    copied = scene.copy("default/layered", tmp_path / "layout")
    assert copied.returncode == 0, copied.stderr
    reference = f"--image={tmp_path}/layout:layered"
    added = [f"file{number}" for number in range(count - 1, count - 1 + FURTHER_LAYERS)]
    for name in added:
        # The first is in the image already, and is hidden by what is above it.
        (tmp_path / name).write_text(f"of a Dockerfile, {name}")
        insert = [UMOCI or "", "insert", reference, str(tmp_path / name), f"/{name}"]
        subprocess.run(insert, check=True, capture_output=True)
    assert layer_count(tmp_path / "layout") == MOST_LAYERS
    unpack = [UMOCI or "", "unpack", reference, str(tmp_path / "bundle")]
    subprocess.run(unpack, check=True, capture_output=True)
    root = tmp_path / "bundle/rootfs"
    for number in range(count - 1):
        assert (root / f"file{number}").read_text() == str(number)
    for name in added:
        assert (root / name).read_text() == f"of a Dockerfile, {name}"


def layer_count(layout: Path) -> int:
    """How many layers the one image of a layout has, by its manifest and by its configuration."""

    def blob(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())

    [found] = json.loads((layout / "index.json").read_bytes())["manifests"]
    manifest = blob(found["digest"])
    layers = len(manifest["layers"])
    assert len(blob(manifest["config"]["digest"])["rootfs"]["diff_ids"]) == layers
    return layers
