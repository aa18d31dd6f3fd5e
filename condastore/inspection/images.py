"""Rows of images against each other: what a manifest needs must be recorded, or it is collected."""

from collections.abc import AsyncIterator
from functools import partial

from sqlalchemy import Select, select

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
        bodies = (await session.execute(select(Manifest.digest, Manifest.body))).all()
        blobs = set(await session.scalars(select(Blob.digest)))
        edges = {tuple(row) for row in await session.execute(select(manifest_blobs))}
        edges |= {tuple(row) for row in await session.execute(select(manifest_children))}
        bare = (await session.scalars(_builds_without_their_image())).all()
    manifests = {digest for digest, _ in bodies}
    for digest, body in bodies:
        if digest_of(body) != digest:
            advice = "restore the database from a backup"
            yield Finding("damaged manifest", digest, advice)
            continue
        found = references(body)
        needed = {*found.blobs, *manifests.intersection(found.children)}
        if {(digest, each) for each in needed} - edges or set(found.blobs) - blobs:
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
