"""A daemon whose artifacts are in S3, through an outage of it."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.servers import S3Server
from devtools.servers import running as serving
from tests.acceptance.harness import Daemon, DaemonDied, eventually, get, running


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3")
    with serving(server):
        yield server


@pytest.fixture
def arguments(server: S3Server, tmp_path: Path) -> list[str]:
    """A configuration as an operator writes it."""
    settings = {
        **server.settings(),
        "external_endpoint": f"localhost:{server.port}",
        "external_secure": False,
    }
    lines = ["c.CondaStore.storage_class = 'condastore.storage.S3Storage'"]
    lines += [f"c.S3Storage.{name} = {value!r}" for name, value in settings.items()]
    path = tmp_path / "config.py"
    path.write_text("\n".join(lines))
    return [f"--config={path}"]


def test_artifacts_come_from_s3_and_an_outage_loses_none(
    server: S3Server, arguments: list[str], tmp_path: Path, tiny: str
) -> None:
    specification = {"name": "env", "channels": [tiny], "dependencies": ["harmless"]}
    with running(tmp_path / "data", *arguments) as daemon:
        first = daemon.submit(specification, namespace="lab")
        daemon.completed(first)
        assert_stored_in(server, daemon, first)
        # Who may not read the environment learns no address.
        stranger = get(f"{daemon.url}/api/v1/build/{first}/lockfile/")
        assert stranger.status_code == 403 and "location" not in stranger.headers
        assert not list((tmp_path / "data" / "storage").glob("*"))

        server.stop()
        second = daemon.submit(specification, namespace="lab")
        daemon.completed(second)
        assert daemon.link("env", "lab").resolve().is_dir()
        # The log comes last, when the build is completed.
        eventually(lambda: len(list((tmp_path / "data" / "unstored").glob("*.data"))) == 3)
        assert pending(daemon, second) == {"LOGS", "LOCKFILE", "YAML"}
        page = daemon.client.get(f"{daemon.url}/ui/build/{second}/?tab=artifacts")
        assert page.text.count("waits for the storage") == 3
        # What waits can be read here; what is only in S3 can't.
        assert "harmless" in daemon.request("GET", f"/build/{second}/lockfile/").text
        assert "build" in daemon.log(second)
        lost = daemon.request("GET", f"/build/{first}/lockfile/")
        assert lost.status_code == 503
        assert lost.json()["message"] == "the storage can't be used now; try again later"
        health = daemon.request("GET", "/health/")
        assert health.status_code == 503 and "storage" in health.json()["message"]

        server.start()
        eventually(lambda: not list((tmp_path / "data" / "unstored").iterdir()))
        assert_stored_in(server, daemon, second)
        assert pending(daemon, second) == set()
        eventually(lambda: daemon.request("GET", "/health/").status_code == 200)
        assert server.secret_key not in daemon.output.read_text()


def pending(daemon: Daemon, build_id: int) -> set[str]:
    """Returns the forms of a build that wait until the storage takes them."""
    rows = daemon.data_of(f"/build/{build_id}/artifacts/")
    return {row["artifact_type"] for row in rows if row["pending"] and row["state"] == "READY"}


def test_archives_and_images_are_fetched_from_s3(
    server: S3Server, arguments: list[str], tmp_path: Path, channel: str
) -> None:
    specification = {"name": "web", "channels": [channel], "dependencies": ["python"]}
    with running(tmp_path / "data", *arguments) as daemon:
        build_id = daemon.submit(specification)
        daemon.completed(build_id)
        for artifact in ("CONDA_PACK", "DOCKER_MANIFEST"):
            daemon.request("POST", f"/build/{build_id}/artifacts/{artifact}/")
            daemon.made(build_id, artifact)
        archive = daemon.request("GET", f"/build/{build_id}/archive/")
        assert archive.status_code == 307
        with tarfile.open(fileobj=io.BytesIO(get(archive.headers["location"]).content)) as tar:
            assert "bin/conda-unpack" in tar.getnames()
        manifest = get(f"{daemon.url}/v2/default/web/manifests/latest")
        for layer in manifest.json()["layers"]:
            blob = get(f"{daemon.url}/v2/default/web/blobs/{layer['digest']}")
            assert blob.status_code == 307
            assert blob.headers["docker-content-digest"] == layer["digest"]
            data = get(blob.headers["location"]).content
            assert f"sha256:{hashlib.sha256(data).hexdigest()}" == layer["digest"]
        assert not list((tmp_path / "data" / "unstored").glob("*"))


def assert_stored_in(server: S3Server, daemon: Daemon, build_id: int) -> None:
    """Checks that a build's texts are in S3, and that clients are sent there."""
    for path, text in (("lockfile", "harmless"), ("yaml", "harmless")):
        answer = daemon.request("GET", f"/build/{build_id}/{path}/")
        assert answer.status_code == 307, answer.text
        location = answer.headers["location"]
        assert location.startswith(f"http://localhost:{server.port}/")
        assert answer.headers["cache-control"] == "private, no-store"
        stored = get(location)
        assert stored.status_code == 200 and text in stored.text
    eventually(lambda: list((server.directory / "buckets").glob(f"*/logs/*-{build_id}-env.log")))
    assert "starting build" in daemon.log(build_id)


def test_a_daemon_does_not_start_without_its_s3(
    server: S3Server, arguments: list[str], tmp_path: Path
) -> None:
    server.stop()
    with pytest.raises(DaemonDied) as raised:
        Daemon(tmp_path / "data", *arguments).start()
    printed = str(raised.value).strip().splitlines()
    assert printed[-1].startswith("condastore: S3 at 127.0.0.1:")
    assert "c.S3Storage.internal_endpoint" in printed[-1]
    assert "Traceback" not in str(raised.value) and server.secret_key not in str(raised.value)
