"""Container images: the same for the same packages, made once, and runnable elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Daemon, assert_becomes_clean, eventually, running
from tests.acceptance.images import (
    artifact,
    ask_for_image,
    assert_every_blob_is_stored,
    image,
    image_digest,
    layers,
    run_in,
    unpack,
    wait_for_image,
)
from tests.acceptance.oracle import assert_sound
from tests.acceptance.stories import POINTS, dies, stopped
from tests.engine.images import tar_of, write_layout

OF_IMAGES = [point for point in POINTS if point.startswith("image.")]
WHAT = "import sys, yaml, flask; print(yaml.__with_libyaml__, flask.__cached__, sys.prefix)"
CACHED = "/opt/env/lib/python3.11/site-packages/flask/__pycache__/__init__.cpython-311.pyc"


def specification(channel: str, name: str, *dependencies: Any, **fields: Any) -> dict[str, Any]:
    return {"name": name, "channels": [channel], "dependencies": [*dependencies], **fields}


def built(daemon: Daemon, channel: str, name: str, *dependencies: Any, **fields: Any) -> int:
    build_id = daemon.submit(specification(channel, name, *dependencies, **fields))
    daemon.completed(build_id)
    return build_id


def attached(daemon: Daemon, digest: str) -> list[str]:
    """The types of what is attached to an image."""
    kinds = daemon.query(f"SELECT artifact_type FROM manifest WHERE subject = '{digest}'")
    return sorted(kind for (kind,) in kinds)


def test_images_share_layers_and_run(tmp_path: Path, channel: str) -> None:
    with running(tmp_path / "data") as daemon:
        first = built(daemon, channel, "first", "python 3.11.*", "flask", "pyyaml")
        digest = image(daemon, first)
        assert attached(daemon, digest) == [
            "application/spdx+json",
            "application/vnd.condastore.lockfile.v1+json",
            "application/vnd.condastore.log.v1",
            "application/vnd.cyclonedx+json",
        ]
        # The same packages under another name, also after a restart and without any known layer.
        second = built(daemon, channel, "second", "python 3.11.*", "pyyaml", "flask")
        assert image(daemon, second) == digest
        daemon.stop()
        daemon.start()
        third = built(daemon, channel, "third", "flask", "python 3.11.*", "pyyaml")
        assert image(daemon, third) == digest

        more = built(daemon, channel, "more", "python 3.11.*", "flask", "pyyaml", "rich")
        other = image(daemon, more)
        shared = set(layers(daemon, digest)) & set(layers(daemon, other))
        # All but the configuration and the environment's own layer.
        assert len(shared) == len(layers(daemon, digest)) - 2

        root = unpack(daemon, more, tmp_path / "unpacked")
        assert run_in(root, "python", "-c", WHAT) == f"True {CACHED} /opt/env\n"
        assert "Flask 3" in run_in(root, "/bin/sh", "-lc", "flask --version")

        response = daemon.request("DELETE", f"/build/{more}/artifacts/DOCKER_MANIFEST/")
        assert response.status_code == 200
        assert daemon.query(f"SELECT id FROM image WHERE build_id = {more}") == []
        assert_every_blob_is_stored(daemon)
        assert_becomes_clean(daemon)


def test_another_server_makes_the_same_image(tmp_path: Path, channel: str, tiny: str) -> None:
    digests = set()
    for name in ("here", "elsewhere-with-a-longer-name"):
        with running(tmp_path / name) as daemon:
            digests.add(image(daemon, built(daemon, channel, name, "python 3.11.*", "six")))
    assert len(digests) == 1


def test_pip_packages_and_variables_are_part_of_an_image(
    tmp_path: Path, channel: str, index: str
) -> None:
    pip = {"pip": ["alpha", f"--index-url {index}"]}
    digests = set()
    for name in ("here", "elsewhere-with-a-longer-name"):
        with running(tmp_path / name) as daemon:
            build_id = built(
                daemon, channel, name, "python 3.11.*", pip, variables={"GREETING": "hello"}
            )
            digest = image(daemon, build_id)
            digests.add(digest)
            if name == "here":
                root = unpack(daemon, build_id, tmp_path / "unpacked")
                assert run_in(root, "python", "-c", "import alpha; print(alpha.__cached__)")
                assert run_in(root, "/bin/sh", "-lc", "echo $GREETING") == "hello\n"
    assert len(digests) == 1


def test_the_making_of_an_image_is_cancelled(tmp_path: Path, channel: str) -> None:
    with running(tmp_path / "data") as daemon:
        build_id = built(daemon, channel, "big", "python 3.11.*", "flask", "rich")
        ask_for_image(daemon, build_id)
        eventually(lambda: artifact(daemon, build_id)["progress"], 60)
        assert daemon.processes()
        response = daemon.request("DELETE", f"/build/{build_id}/artifacts/DOCKER_MANIFEST/")
        assert response.status_code == 200, response.text
        eventually(lambda: artifact(daemon, build_id)["state"] == "CANCELED")
        assert daemon.query("SELECT id FROM image") == []
        assert_every_blob_is_stored(daemon)
        assert_becomes_clean(daemon)
        assert image(daemon, build_id)


def test_an_image_that_can_not_be_made_says_why(tmp_path: Path, tiny: str) -> None:
    options = ["--Images.base=/nowhere/base.tar"]
    with running(tmp_path / "data", *options) as daemon:
        build_id = built(daemon, tiny, "harmless", "harmless")
        response = daemon.request("GET", f"/build/{build_id}/docker/?format=oci-archive")
        assert response.status_code == 404 and "no image yet" in response.json()["message"]
        ask_for_image(daemon, build_id)
        eventually(lambda: artifact(daemon, build_id)["state"] == "FAILED")
        assert "/nowhere/base.tar" in artifact(daemon, build_id)["error"]
        assert_becomes_clean(daemon)


def test_the_log_of_a_build_is_not_for_other_namespaces(tmp_path: Path, tiny: str) -> None:
    with running(tmp_path / "data") as daemon:
        digest = image(daemon, built(daemon, tiny, "one", "harmless"))
        assert len(attached(daemon, digest)) == 4
        daemon.request("POST", "/namespace/other/")
        other = daemon.submit(specification(tiny, "two", "harmless"), namespace="other")
        daemon.completed(other)
        assert image(daemon, other) == digest
        assert attached(daemon, digest) == [
            "application/spdx+json",
            "application/vnd.cyclonedx+json",
        ]


def test_a_lockfile_for_several_platforms_is_an_image_for_each(tmp_path: Path, tiny: str) -> None:
    layer = tar_of(base=b"base")
    for architecture in ("amd64", "arm64"):
        write_layout(tmp_path / "base", [layer], architecture)
    options = [
        f"--Images.base={tmp_path}/base",
        *(f"--CondaStore.conda_solve_platforms={each}" for each in ("linux-64", "linux-aarch64")),
        "--CondaStore.conda_solve_platforms=osx-arm64",
    ]
    with running(tmp_path / "data", *options) as daemon:
        digest = image(daemon, built(daemon, tiny, "harmless", "harmless"))
        [(body,)] = daemon.query(f"SELECT body FROM manifest WHERE digest = '{digest}'")
        entries = json.loads(body)["manifests"]
        assert [entry["platform"]["architecture"] for entry in entries] == ["amd64", "arm64"]
        first, second = (layers(daemon, entry["digest"]) for entry in entries)
        # The configurations differ; the base's layer, the package and what is last don't.
        assert len(set(first) & set(second)) == 3
        assert len(first) == 4
        assert_every_blob_is_stored(daemon)


@pytest.mark.parametrize("point", OF_IMAGES)
def test_an_image_survives_a_kill_at(tmp_path: Path, tiny: str, point: str) -> None:
    with stopped(tmp_path / "data") as daemon:
        daemon.start(CONDASTORE_FAULT=f"{point}:1:kill")
        builds = [built(daemon, tiny, name, "harmless") for name in ("one", "two")]
        if point == "image.reused":
            image(daemon, builds[0])
            build_id = builds[1]
        else:
            build_id = builds[0]
        ask_for_image(daemon, build_id)
        dies(daemon)
        assert_every_blob_is_stored(daemon)
        images = {build for (build,) in daemon.query("SELECT build_id FROM image")}
        recorded = daemon.query(
            "SELECT build_id FROM build_artifact WHERE artifact_type = 'DOCKER_MANIFEST'"
        )
        assert images == {build for (build,) in recorded}

        daemon.start()

        digest = wait_for_image(daemon, build_id)
        other = next(each for each in builds if each != build_id)
        assert image(daemon, other) == digest == image_digest(daemon, build_id)
        assert_every_blob_is_stored(daemon)
        assert_sound(daemon)
