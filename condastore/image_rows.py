"""Rows of images: blobs, layers and manifests, and which build has which.

A blob's bytes are in the storage before its row is written, and leave it after the row is gone.
"""

from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.oci import digest_of, references
from condastore.tables import (
    Blob,
    Build,
    Image,
    Layer,
    Manifest,
    manifest_blobs,
    manifest_children,
    utcnow,
)


async def keep_blob(session: AsyncSession, digest: str, size: int) -> None:
    """Records a blob that is stored, or that is wanted again although it was doomed."""
    blob = await session.get(Blob, digest)
    if blob is None:
        session.add(Blob(digest=digest, size=size))
    else:
        blob.doomed_on = None
    await session.flush()


async def reuse_layers(session: AsyncSession, keys: Collection[str]) -> dict[str, Layer]:
    """Returns the layers that exist already, by key; their blobs are safe from the collector."""
    layers = await find_layers(session, keys)
    digests = [layer.blob_digest for layer in layers.values()]
    await session.execute(update(Blob).where(Blob.digest.in_(digests)).values(doomed_on=None))
    for layer in layers.values():
        layer.used_on = utcnow()
    return layers


async def find_layers(session: AsyncSession, keys: Collection[str]) -> dict[str, Layer]:
    """Returns the layers that exist, by key, for as long as something else keeps them."""
    layers = await session.scalars(select(Layer).where(Layer.key.in_(keys)))
    return {layer.key: layer for layer in layers}


async def sizes_of(session: AsyncSession, digests: Collection[str]) -> dict[str, int]:
    """Returns the sizes of blobs that are recorded."""
    query = select(Blob.digest, Blob.size).where(Blob.digest.in_(digests))
    return dict((await session.execute(query)).all())


async def add_layer(
    session: AsyncSession, key: str, *, diff_id: str, media_type: str, digest: str, size: int
) -> None:
    """Records a layer whose blob is stored."""
    await keep_blob(session, digest, size)
    if await session.get(Layer, key) is None:
        session.add(Layer(key=key, diff_id=diff_id, media_type=media_type, blob_digest=digest))
        await session.flush()


async def add_manifest(session: AsyncSession, body: bytes) -> str:
    """Records a manifest, whose blobs and children are recorded, and returns its digest."""
    digest = digest_of(body)
    if await session.get(Manifest, digest) is not None:
        return digest
    found = references(body)
    session.add(
        Manifest(
            digest=digest,
            media_type=found.media_type,
            artifact_type=found.artifact_type,
            subject=found.subject,
            body=body,
        )
    )
    await session.flush()
    await _add_edges(session, digest, found.children, found.blobs)
    return digest


async def record_needs(session: AsyncSession, digest: str, body: bytes) -> None:
    """Records anew what a manifest refers to: its blobs, and the children that are recorded."""
    found = references(body)
    of_children, of_blobs = manifest_children.c, manifest_blobs.c
    await session.execute(delete(manifest_children).where(of_children.parent_digest == digest))
    await session.execute(delete(manifest_blobs).where(of_blobs.manifest_digest == digest))
    recorded = select(Manifest.digest).where(Manifest.digest.in_(found.children))
    await _add_edges(session, digest, await session.scalars(recorded), found.blobs)


async def _add_edges(
    session: AsyncSession, digest: str, children: Iterable[str], blobs: Iterable[str]
) -> None:
    for child in _once(children):
        edge = {"parent_digest": digest, "child_digest": child}
        await session.execute(insert(manifest_children).values(edge))
    for blob in _once(blobs):
        edge = {"manifest_digest": digest, "blob_digest": blob}
        await session.execute(insert(manifest_blobs).values(edge))


async def find_image(session: AsyncSession, key: str) -> Image | None:
    """Returns an image that is made of the same things."""
    image: Image | None = await session.scalar(select(Image).where(Image.key == key).limit(1))
    return image


async def record_image(
    session: AsyncSession, build_id: int, *, key: str, lock_hash: str, manifest_digest: str
) -> Image:
    """Makes a recorded manifest the image of a build."""
    image: Image | None = await session.scalar(select(Image).where(Image.build_id == build_id))
    if image is None:
        image = Image(build_id=build_id)
        session.add(image)
    image.key, image.lock_hash, image.manifest_digest = key, lock_hash, manifest_digest
    image.docker_digest = None
    await session.flush()
    return image


async def environments_with(session: AsyncSession, digest: str) -> set[int]:
    """Returns the ids of the environments whose builds have an image."""
    query = (
        select(Build.environment_id)
        .join(Image, Image.build_id == Build.id)
        .where(Image.manifest_digest == digest)
    )
    return set(await session.scalars(query))


async def detach(session: AsyncSession, subject: str, artifact_types: Collection[str]) -> None:
    """Removes what is attached to a manifest, of some types."""
    await session.execute(
        delete(Manifest).where(
            Manifest.subject == subject, Manifest.artifact_type.in_(artifact_types)
        )
    )


async def drop_images(
    session: AsyncSession, build_ids: Collection[int], *, unless_pulled_since: datetime
) -> None:
    """Takes the images of builds away, unless somebody may be pulling them still."""
    pulled = select(Manifest.digest).where(Manifest.pulled_on > unless_pulled_since)
    await session.execute(
        delete(Image).where(
            Image.build_id.in_(build_ids),
            Image.manifest_digest.not_in(pulled),
            or_(Image.docker_digest.is_(None), Image.docker_digest.not_in(pulled)),
        )
    )


def _once(digests: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(digests))
