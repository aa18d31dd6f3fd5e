"""Images as one file."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from condastore.database import Database
from condastore.errors import NotFound
from condastore.image_archive import image_archive
from condastore.image_rows import add_manifest, keep_blob
from condastore.manifests import LayerBlob, Settings, image_config, image_index, image_manifest
from condastore.oci import LAYER_GZIP, blob_key, digest_of
from condastore.storage import LocalStorage

BLOBS = [b"", b"x", b"y" * 512, b"z" * 100_000]
SETTINGS = Settings({"PATH": "/opt/env/bin"}, ["sh"])


@pytest.fixture
async def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(storage_path=str(tmp_path / "storage"))
    await storage.open()
    return storage


async def record(database: Database, storage: LocalStorage, *subdirs: str) -> dict[str, bytes]:
    """Records an image for each platform; returns all manifests, the uppermost last."""
    layers = [LayerBlob(digest_of(blob), len(blob), LAYER_GZIP, digest_of(blob)) for blob in BLOBS]
    configs = {subdir: image_config(subdir, layers, SETTINGS) for subdir in subdirs}
    manifests = {subdir: image_manifest(config, layers) for subdir, config in configs.items()}
    bodies = list(manifests.values())
    if len(bodies) > 1:
        bodies.append(image_index(manifests))
    async with database.write() as session:
        for blob in (*BLOBS, *configs.values()):
            await storage.put_bytes(blob_key(digest_of(blob)), blob)
            await keep_blob(session, digest_of(blob), len(blob))
        for body in bodies:
            await add_manifest(session, body)
    return {digest_of(body): body for body in bodies}


@pytest.mark.parametrize("subdirs", [["linux-64"], ["linux-64", "linux-aarch64"]])
async def test_an_archive_is_a_layout_of_the_length_that_was_said(
    database: Database, storage: LocalStorage, subdirs: list[str]
) -> None:
    bodies = await record(database, storage, *subdirs)
    top = list(bodies)[-1]
    async with database.read() as session:
        archive = await image_archive(session, top, "latest")
    data = b"".join([piece async for piece in archive.read(storage)])
    assert len(data) == archive.length
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        files = {}
        for member in opened:
            found = opened.extractfile(member)
            assert found is not None
            assert member.name not in files
            files[member.name] = found.read()
    assert json.loads(files.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    [entry] = json.loads(files.pop("index.json"))["manifests"]
    assert entry["digest"] == top
    assert entry["size"] == len(bodies[top])
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "latest"}
    for name, content in files.items():
        assert name == f"blobs/{digest_of(content).replace(':', '/')}"
    assert set(bodies.values()) | set(BLOBS) < set(files.values())
    assert len(files) == len(bodies) + len(BLOBS) + len(subdirs)


async def test_there_is_no_archive_of_no_image(database: Database) -> None:
    async with database.read() as session:
        with pytest.raises(NotFound):
            await image_archive(session, digest_of(b""), "latest")


async def test_a_blob_that_is_gone_is_noticed(database: Database, storage: LocalStorage) -> None:
    bodies = await record(database, storage, "linux-64")
    await storage.delete(blob_key(digest_of(BLOBS[-1])))
    async with database.read() as session:
        archive = await image_archive(session, next(iter(bodies)), "latest")
    with pytest.raises(FileNotFoundError):
        [piece async for piece in archive.read(storage)]
