"""Images as their users see them: made on demand, fetched as one file, unpacked, and run."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from condastore.oci import blob_key
from tests.acceptance.harness import Daemon, eventually

OCI_ARCHIVE = {"format": "oci-archive"}
MISSING = "there is no skopeo, no umoci or no root on this machine to unpack an image and run it"
# What runs in a container has /proc, where programs look for themselves.
_RUN = 'mount -t proc proc "$1/proc" && exec chroot "$@"'


def ask_for_image(daemon: Daemon, build_id: int) -> None:
    """Has the image of a build made."""
    response = daemon.request("POST", f"/build/{build_id}/artifacts/DOCKER_MANIFEST/")
    assert response.status_code == 200, response.text


def artifact(daemon: Daemon, build_id: int) -> dict[str, Any]:
    """What the API says of the image of a build."""
    found: list[dict[str, Any]] = daemon.data_of(f"/build/{build_id}/artifacts/")
    return next(each for each in found if each["artifact_type"] == "DOCKER_MANIFEST")


def wait_for_image(daemon: Daemon, build_id: int) -> str:
    """Waits until an image is there; returns its digest."""

    def is_over() -> bool:
        return artifact(daemon, build_id)["state"] not in ("QUEUED", "RUNNING")

    eventually(is_over, 300)
    assert artifact(daemon, build_id)["state"] == "READY", artifact(daemon, build_id)
    return image_digest(daemon, build_id)


def image(daemon: Daemon, build_id: int) -> str:
    """Has the image of a build made and returns its digest."""
    ask_for_image(daemon, build_id)
    return wait_for_image(daemon, build_id)


def image_digest(daemon: Daemon, build_id: int) -> str:
    """The digest that is recorded of the image of a build."""
    [(digest,)] = daemon.query(f"SELECT manifest_digest FROM image WHERE build_id = {build_id}")
    return str(digest)


def layers(daemon: Daemon, digest: str) -> list[str]:
    """The digests of an image's layers."""
    return [
        name
        for (name,) in daemon.query(
            f"SELECT blob_digest FROM manifest_blob WHERE manifest_digest = '{digest}'"
        )
    ]


def assert_every_blob_is_stored(daemon: Daemon) -> None:
    """Looks at a daemon's storage, of a dead one too."""
    for digest, size in daemon.query("SELECT digest, size FROM blob"):
        assert (daemon.data / "storage" / blob_key(digest)).stat().st_size == size


def unpack(daemon: Daemon, build_id: int, folder: Path) -> Path:
    """Unpacks the image of a build with the tools of others, and returns its root directory."""
    if not (shutil.which("skopeo") and shutil.which("umoci") and os.geteuid() == 0):
        pytest.skip(MISSING)
    folder.mkdir()
    archive = folder / "image.tar"
    response = daemon.request("GET", f"/build/{build_id}/docker/", params=OCI_ARCHIVE)
    assert response.status_code == 200, response.text
    archive.write_bytes(response.content)
    layout = f"oci:{folder}/layout:latest"
    subprocess.run(["skopeo", "copy", "--quiet", f"oci-archive:{archive}", layout], check=True)
    bundle = folder / "bundle"
    command = ["umoci", "unpack", "--image", f"{folder}/layout:latest", str(bundle)]
    subprocess.run(command, check=True, capture_output=True)
    return bundle / "rootfs"


def run_in(root: Path, *command: str) -> str:
    """Runs a command in an unpacked image as a container would; returns what it printed."""
    isolated = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", _RUN, "sh", str(root)]
    clean = ["/usr/bin/env", "-i", "PATH=/opt/env/bin:/usr/bin:/bin"]
    done = subprocess.run([*isolated, *clean, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout
