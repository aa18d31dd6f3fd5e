"""Rows of images against each other: what a manifest needs must be recorded, or it is collected."""

from collections.abc import AsyncIterator
from functools import partial

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.artifact_rows import queue_artifacts
from condastore.build_rows import find_build, recorded_prefix
from condastore.builds import ArtifactType
from condastore.image_rows import keep_blob, record_needs
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene
from condastore.oci import blob_key, digest_of, references
from condastore.tables import (
    Blob,
    Build,
    BuildArtifact,
    Image,
    Manifest,
    manifest_blobs,
    manifest_children,
)


async def inspect_images(scene: Scene) -> AsyncIterator[Finding]:
    """Yields manifests of which not all is recorded, and builds whose image is not."""
    async with scene.database.read() as session:
        manifests = set(await session.scalars(select(Manifest.digest)))
        blobs = set(await session.scalars(select(Blob.digest)))
        bare = (await session.scalars(_builds_without_their_image())).all()
    for digest in sorted(manifests):
        async with scene.database.read() as session:
            body = (await session.get_one(Manifest, digest)).body
            edges = await _edges(session, digest)
        if digest_of(body) != digest:
            advice = "restore the database from a backup"
            yield Finding("damaged manifest", digest, advice)
            continue
        found = references(body)
        if not (edges & blobs >= set(found.blobs) and edges >= manifests & set(found.children)):
            yield Finding(
                "manifest of which not all is recorded",
                digest,
                "recorded again",
                partial(_record_again, scene, digest, body),
            )
    for build_id in bare:
        yield Finding(
            "build whose image is not recorded",
            f"build {build_id}",
            "the image is made again",
            partial(_make_again, scene, build_id),
        )


async def _edges(session: AsyncSession, digest: str) -> set[str]:
    """Returns what a manifest needs, as far as that is recorded."""
    to_blobs, to_children = manifest_blobs.c, manifest_children.c
    blobs = select(to_blobs.blob_digest).where(to_blobs.manifest_digest == digest)
    children = select(to_children.child_digest).where(to_children.parent_digest == digest)
    return set(await session.scalars(blobs.union_all(children)))


def _builds_without_their_image() -> Select[int]:
    is_image = BuildArtifact.artifact_type == ArtifactType.DOCKER_MANIFEST
    has_image = select(Image.id).where(Image.build_id == Build.id).exists()
    return (
        select(Build.id)
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .where(is_image, Build.deleted_on.is_(None), ~has_image)
    )


async def _record_again(scene: Scene, digest: str, body: bytes) -> None:
    """A blob that is not stored either is forgotten in the next round, with its images."""
    sizes = {blob: await scene.storage.size(blob_key(blob)) for blob in references(body).blobs}
    async with scene.database.write() as session:
        for blob, size in sizes.items():
            if await session.get(Blob, blob) is None:
                await keep_blob(session, blob, size or 0)
        await record_needs(session, digest, body)


async def _make_again(scene: Scene, build_id: int) -> None:
    async with scene.database.write() as session:
        build = await find_build(session, build_id)
        build.build_artifacts = [
            row
            for row in build.build_artifacts
            if row.artifact_type != ArtifactType.DOCKER_MANIFEST
        ]
        if recorded_prefix(build) is not None:
            await queue_artifacts(session, build, [ArtifactType.DOCKER_MANIFEST])
