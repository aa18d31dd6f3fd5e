"""Small images, put where the daemon looks for them: blobs in the storage, rows in the database."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from condastore import oci
from condastore.database import Database
from condastore.image_rows import add_layer, add_manifest, keep_blob, record_image
from condastore.storage import LocalStorage

Document = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A manifest with all that it needs."""

    body: bytes
    blobs: dict[str, bytes] = field(default_factory=dict)
    children: Sequence["Made"] = ()

    @property
    def digest(self) -> str:
        return oci.digest_of(self.body)

    @property
    def document(self) -> Document:
        found: Document = json.loads(self.body)
        return found

    @property
    def descriptor(self) -> Document:
        """How others refer to it."""
        return {
            "mediaType": self.document["mediaType"],
            "digest": self.digest,
            "size": len(self.body),
        }


def layer(files: Mapping[str, bytes]) -> bytes:
    """Returns a tar of files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


def image(
    *layers: Mapping[str, bytes], architecture: str = "amd64", compress: bool = True, **extra: Any
) -> Made:
    """Returns an image with these files, one layer each."""
    tars = [layer(files) for files in layers]
    packed = [gzip.compress(tar, mtime=0) if compress else tar for tar in tars]
    config = oci.canonical(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["/bin/hello"]},
            "rootfs": {"type": "layers", "diff_ids": [oci.digest_of(tar) for tar in tars]},
            "history": [{"created_by": "a test"} for _ in tars],
        }
    )
    kind = oci.LAYER_GZIP if compress else oci.LAYER_ZSTD
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": descriptor(config, oci.CONFIG),
        "layers": [descriptor(data, kind) for data in packed],
        **extra,
    }
    blobs = {oci.digest_of(data): data for data in (config, *packed)}
    return Made(oci.canonical(manifest), blobs)


def index(*children: Made, **extra: Any) -> Made:
    """Returns an index of images for different platforms."""
    architectures = ["amd64", "arm64", "s390x"]
    manifests = [
        {**child.descriptor, "platform": {"os": "linux", "architecture": architecture}}
        for child, architecture in zip(children, architectures, strict=False)
    ]
    document = {"schemaVersion": 2, "mediaType": oci.INDEX, "manifests": manifests, **extra}
    return Made(oci.canonical(document), {}, children)


def artifact(subject: Mapping[str, Any] | None, kind: str, data: bytes = b"{}") -> Made:
    """Returns an artifact that refers to a manifest."""
    empty = b"{}"
    document = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": kind,
        "config": descriptor(empty, "application/vnd.oci.empty.v1+json"),
        "layers": [descriptor(data, "application/octet-stream")],
        "annotations": {"test.kind": kind},
        **({} if subject is None else {"subject": subject}),
    }
    blobs = {oci.digest_of(empty): empty, oci.digest_of(data): data}
    return Made(oci.canonical(document), blobs)


def descriptor(data: bytes, media_type: str) -> Document:
    return {"mediaType": media_type, "digest": oci.digest_of(data), "size": len(data)}


async def store(database: Database, storage: LocalStorage, *images: Made) -> None:
    """Puts manifests and what they need where they belong."""
    every = [*_with_children(images)]
    blobs = {digest: data for made in every for digest, data in made.blobs.items()}
    for digest, data in blobs.items():
        await storage.put_bytes(oci.blob_key(digest), data)
    async with database.write() as session:
        for made in every:
            await _record(session, made)


def _with_children(images: Iterable[Made]) -> Iterator[Made]:
    for made in images:
        yield from _with_children(made.children)
        yield made


async def _record(session: AsyncSession, made: Made) -> None:
    for digest, data in made.blobs.items():
        await keep_blob(session, digest, len(data))
    for entry in made.document.get("layers", []):
        data = made.blobs[entry["digest"]]
        key = hashlib.sha256(data).hexdigest()
        await add_layer(
            session,
            key,
            diff_id=entry["digest"],
            media_type=entry["mediaType"],
            digest=entry["digest"],
            size=len(data),
        )
    await add_manifest(session, made.body)


async def give(
    database: Database, storage: LocalStorage, build_id: int, made: Made, lock: str = ""
) -> None:
    """Makes an image that of a build."""
    await store(database, storage, made)
    lock_hash = hashlib.sha256((lock or str(build_id)).encode()).hexdigest()
    async with database.write() as session:
        await record_image(
            session, build_id, key=lock_hash, lock_hash=lock_hash, manifest_digest=made.digest
        )
