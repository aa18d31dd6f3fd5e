"""The image of a build: the name under which it can be pulled, and all of it as one file."""

from sqlalchemy import select

from condastore.access import Caller
from condastore.build_rows import arn, find_build, key_of
from condastore.builds import ArtifactType, BuildStatus
from condastore.errors import NotFound
from condastore.image_archive import ImageArchive, image_archive
from condastore.oci import is_repository, is_tag
from condastore.service.parts import Parts
from condastore.tables import Image


async def image_name(parts: Parts, caller: Caller, build_id: int) -> str | None:
    """Returns `namespace/environment:build key`; None for a build that can't be pulled.

    The image is made when it is pulled, if it is not there yet. Raises `NotFound`.
    """
    async with parts.database.read() as session:
        build = await find_build(session, build_id)
    caller.require("environment::read", arn(build))
    key = key_of(build)
    has_image = any(
        row.artifact_type == ArtifactType.DOCKER_MANIFEST for row in build.build_artifacts
    )
    if not (build.status == BuildStatus.COMPLETED and (build.deleted_on is None or has_image)):
        return None
    if not (is_repository(arn(build)) and is_tag(key)):
        return None
    return f"{arn(build)}:{key}"


async def archive(parts: Parts, caller: Caller, build_id: int) -> ImageArchive:
    """Returns the image of a build as one file, which is made while it is read.

    Raises `NotFound` if it is not made yet.
    """
    async with parts.database.read() as session:
        build = await find_build(session, build_id)
        caller.require("environment::read", arn(build))
        digest = await session.scalar(
            select(Image.manifest_digest).where(Image.build_id == build.id)
        )
        if digest is None:
            raise NotFound(
                f"build {build_id} has no image yet; POST to "
                f"/api/v1/build/{build_id}/artifacts/DOCKER_MANIFEST/ to have it made"
            )
        return await image_archive(session, digest, build.environment.name)
