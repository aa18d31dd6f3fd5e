"""Deleting and collecting under a daemon that may die (oci-registry §8, case 27)."""

import os
from pathlib import Path

import pytest

from condastore.oci import blob_key
from tests.acceptance.harness import Daemon, assert_becomes_clean, eventually, running
from tests.acceptance.oracle import findings
from tests.acceptance.registry import Content, Puller, assert_pulls, assert_refused
from tests.acceptance.stories import AT_ONCE, POINTS, dies, stopped
from tests.images import image

SHARED = {"shared": b"shared"}
GOING = image(SHARED, {"going": os.urandom(20_000_000)})
STAYING = image(SHARED, {"staying": b"s"})

BY_HAND = "completed build without a record of its files"


def rows(daemon: Daemon) -> set[str]:
    return {digest for (digest,) in daemon.query("SELECT digest FROM blob")}


def files(daemon: Daemon) -> set[str]:
    folder = daemon.data / "storage/blobs/sha256"
    return {f"sha256:{path.name}" for path in folder.rglob("*") if path.is_file()}


def is_collected(daemon: Daemon) -> bool:
    return rows(daemon) == files(daemon) == STAYING.blobs.keys()


def add_both(daemon: Daemon) -> tuple[int, int]:
    content = Content(daemon)
    return content.build("default", "going", GOING), content.build("default", "staying", STAYING)


def delete(daemon: Daemon, build_id: int) -> None:
    assert daemon.request("DELETE", f"/build/{build_id}/").status_code == 200


@pytest.mark.parametrize(
    ("point", "passing"),
    [
        *((point, 1) for point in POINTS if point.startswith("collect.")),
        ("collect.file_gone", 2),
    ],
)
def test_27_a_collection_survives_a_kill_at(tmp_path: Path, point: str, passing: int) -> None:
    with stopped(tmp_path / "data", *AT_ONCE) as daemon:
        daemon.start()
        going, _ = add_both(daemon)
        daemon.kill()
        daemon.start(CONDASTORE_FAULT=f"{point}:{passing}:kill")
        delete(daemon, going)
        dies(daemon)
        # Nothing is promised that is not there.
        assert rows(daemon) <= files(daemon)
        assert STAYING.blobs.keys() <= rows(daemon)
        daemon.start()
        eventually(lambda: is_collected(daemon), what=lambda: (rows(daemon), files(daemon)))
        with Puller(daemon) as puller:
            assert_pulls(puller, "default/staying", STAYING)
        assert_becomes_clean(daemon)
        assert daemon.stop() == 0
        # These builds are made by hand, and have images only.
        assert {found["kind"] for found in findings(daemon)} == {BY_HAND}


def test_27_a_pull_in_progress_ends(tmp_path: Path) -> None:
    with running(tmp_path / "data", *AT_ONCE) as daemon, Puller(daemon) as puller:
        going, _ = add_both(daemon)
        digest = GOING.document["layers"][1]["digest"]
        url = f"{daemon.url}/v2/default/going/blobs/{digest}"
        with puller.client.stream("GET", url) as answer:
            pieces = answer.iter_raw()
            got = next(pieces)
            delete(daemon, going)
            eventually(lambda: is_collected(daemon), what=lambda: (rows(daemon), files(daemon)))
            got += b"".join(pieces)
        assert got == GOING.blobs[digest]
        assert_refused(puller.blob("default/going", digest), 404, "BLOB_UNKNOWN")
        assert_refused(puller.manifest("default/going", "latest"), 404, "MANIFEST_UNKNOWN")


def test_27_who_has_the_manifest_gets_the_rest(tmp_path: Path) -> None:
    options = "--ContainerRegistry.blob_grace=0"
    with running(tmp_path / "data", options) as daemon, Puller(daemon) as puller:
        going, _ = add_both(daemon)
        assert puller.manifest("default/going", "latest").status_code == 200
        delete(daemon, going)
        eventually(lambda: collections(daemon))
        assert_refused(puller.manifest("default/going", str(going)), 404, "MANIFEST_UNKNOWN")
        assert_pulls(puller, "default/going", GOING)


def collections(daemon: Daemon) -> int:
    sql = "SELECT count(*) FROM task WHERE kind = 'collect_blobs' AND state = 'DONE'"
    count: int = daemon.query(sql)[0][0]
    return count


@pytest.mark.parametrize("kept", [True, False])
def test_27_an_environment_takes_its_images_along(tmp_path: Path, kept: bool) -> None:
    """Whatever is kept of a build that is deleted; of a whole environment nothing is."""
    artifacts = "--CondaStore.build_artifacts_kept_on_deletion=DOCKER_MANIFEST"
    with running(tmp_path / "data", *AT_ONCE, artifacts) as daemon, Puller(daemon) as puller:
        going, _ = add_both(daemon)
        if kept:
            delete(daemon, going)
            eventually(lambda: daemon.build(going)["status_info"])
            daemon.request("DELETE", "/environment/default/staying/")
            eventually(lambda: collections(daemon))
            assert puller.manifest("default/going", str(going)).content == GOING.body
            assert_pulls(puller, "default/going", GOING)
            return
        assert daemon.request("DELETE", "/environment/default/going/").status_code == 200
        eventually(lambda: is_collected(daemon), what=lambda: (rows(daemon), files(daemon)))
        assert_refused(puller.manifest("default/going", "latest"), 404, "NAME_UNKNOWN")


def test_27_a_blob_that_is_gone_from_the_disk_is_not_promised(tmp_path: Path) -> None:
    with running(tmp_path / "data") as daemon, Puller(daemon) as puller:
        add_both(daemon)
        digest = STAYING.document["layers"][1]["digest"]
        (daemon.data / "storage" / blob_key(digest)).unlink()
        for method in ("GET", "HEAD"):
            answer = puller.request(method, f"default/staying/blobs/{digest}")
            assert_refused(answer, 404, "BLOB_UNKNOWN")
        assert digest in daemon.output.read_text()
