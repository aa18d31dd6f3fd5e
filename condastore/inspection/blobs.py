"""Rows of images' blobs against the storage, both ways."""

from collections.abc import AsyncIterator
from functools import partial

from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.artifact_rows import queue_artifacts
from condastore.build_rows import find_build, recorded_prefix
from condastore.builds import ArtifactType
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene
from condastore.oci import blob_key
from condastore.tables import (
    Blob,
    BuildArtifact,
    Image,
    Layer,
    Manifest,
    manifest_blobs,
    manifest_children,
)


async def inspect_blobs(scene: Scene) -> AsyncIterator[Finding]:
    """Yields blobs that are recorded and not stored, or stored and not recorded.

    A young one without a row may be of a newer database than this, which is a backup, or what a
    crash left; the collection takes it when it is older.
    """
    async with scene.database.read() as session:
        digests = (await session.scalars(select(Blob.digest))).all()
    known = {blob_key(digest): digest for digest in digests}
    present = set()
    async for key, age_s in scene.storage.ages("blobs"):
        present.add(key)
        if key not in known and age_s > scene.unknown_blob_grace_s:
            yield Finding("blob without a row", key, "removed", partial(_delete, scene, key))
    for key, digest in known.items():
        if key not in present and await scene.storage.size(key) is None:
            yield Finding(
                "blob without its bytes",
                digest,
                "the images that need it are forgotten, and made again",
                partial(_forget, scene, digest),
            )


async def _delete(scene: Scene, key: str) -> None:
    await scene.storage.delete(key)


async def _forget(scene: Scene, digest: str) -> None:
    async with scene.database.write() as session:
        manifests = await _manifests_with(session, digest)
        wanting = or_(Image.manifest_digest.in_(manifests), Image.docker_digest.in_(manifests))
        builds = (await session.scalars(select(Image.build_id).where(wanting))).all()
        await session.execute(delete(Image).where(Image.build_id.in_(builds)))
        await session.execute(
            delete(BuildArtifact).where(
                BuildArtifact.build_id.in_(builds),
                BuildArtifact.artifact_type == ArtifactType.DOCKER_MANIFEST,
            )
        )
        for manifest in manifests:
            await session.execute(delete(Manifest).where(Manifest.digest == manifest))
        await session.execute(delete(Layer).where(Layer.blob_digest == digest))
        await session.execute(delete(Blob).where(Blob.digest == digest))
        for build_id in builds:
            build = await find_build(session, build_id)
            if recorded_prefix(build) is not None:
                await queue_artifacts(session, build, [ArtifactType.DOCKER_MANIFEST])


async def _manifests_with(session: AsyncSession, digest: str) -> list[str]:
    """Returns the manifests that need a blob, and those that lead to one, these first."""
    needing = select(manifest_blobs.c.manifest_digest).where(manifest_blobs.c.blob_digest == digest)
    found = list(await session.scalars(needing))
    level = found
    while level:
        parents = select(manifest_children.c.parent_digest)
        above = await session.scalars(parents.where(manifest_children.c.child_digest.in_(level)))
        level = [parent for parent in dict.fromkeys(above) if parent not in found]
        found += level
    return found[::-1]
