"""An image as one file: an OCI layout in a tar, made while it is read, with a known length.

`skopeo copy oci-archive:x.tar ...`, `podman load` and `docker load` (from 25 on) take it.
"""

import tarfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.errors import NotFound
from condastore.image_rows import sizes_of
from condastore.manifests import EPOCH
from condastore.oci import INDEX, blob_key, canonical, references
from condastore.storage import Storage
from condastore.tables import Manifest, manifest_children

_BLOCK = tarfile.BLOCKSIZE
_LAYOUT = canonical({"imageLayoutVersion": "1.0.0"})


@dataclass(frozen=True)
class Member:
    """A file of the archive: its bytes, or the digest of the blob that it is."""

    name: str
    size: int
    data: bytes | None = None
    digest: str | None = None


@dataclass(frozen=True)
class ImageArchive:
    """An archive that is yet to be read."""

    members: Sequence[Member]

    @property
    def length(self) -> int:
        """The bytes of the whole archive."""
        return sum(_padded(member.size) + _BLOCK for member in self.members) + 2 * _BLOCK

    async def read(self, storage: Storage) -> AsyncIterator[bytes]:
        """Yields the archive. Raises `FileNotFoundError` if the storage lacks a blob."""
        for member in self.members:
            yield _header(member)
            if member.data is not None:
                yield member.data
            elif member.digest is not None:
                async for piece in storage.read(blob_key(member.digest)):
                    yield piece
            yield bytes(_padded(member.size) - member.size)
        yield bytes(2 * _BLOCK)


async def image_archive(session: AsyncSession, digest: str, tag: str) -> ImageArchive:
    """Returns the archive of a recorded image or index, which it calls by a tag.

    Raises `NotFound`.
    """
    manifest = await session.get(Manifest, digest)
    if manifest is None:
        raise NotFound(f"there is no image {digest}")
    children = select(Manifest).join(
        manifest_children, manifest_children.c.child_digest == Manifest.digest
    )
    found = [manifest]
    if manifest.media_type == INDEX:
        found += await session.scalars(children.where(manifest_children.c.parent_digest == digest))
    bodies = {each.digest: each.body for each in found}
    needed = {blob for body in bodies.values() for blob in references(body).blobs}
    sizes = await sizes_of(session, needed)
    return ImageArchive(members_of(manifest.media_type, digest, tag, bodies, sizes))


def members_of(
    media_type: str, digest: str, tag: str, bodies: dict[str, bytes], sizes: dict[str, int]
) -> list[Member]:
    """Returns the files of an archive; `bodies` are the manifests, `sizes` those of the blobs."""
    entry = {
        "mediaType": media_type,
        "digest": digest,
        "size": len(bodies[digest]),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    index = canonical({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]})
    return [
        Member("oci-layout", len(_LAYOUT), _LAYOUT),
        Member("index.json", len(index), index),
        *(Member(_path(name), len(body), body) for name, body in sorted(bodies.items())),
        *(Member(_path(name), size, digest=name) for name, size in sorted(sizes.items())),
    ]


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _header(member: Member) -> bytes:
    info = tarfile.TarInfo(member.name)
    info.size, info.mode, info.mtime = member.size, 0o644, EPOCH
    # The size of a large blob does not fit the oldest format; this writes it in the header too.
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
