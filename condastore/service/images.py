"""The name under which the image of a build can be pulled."""

from condastore.access import Caller
from condastore.build_rows import arn, find_build, key_of
from condastore.builds import ArtifactType, BuildStatus
from condastore.oci import is_repository, is_tag
from condastore.service.parts import Parts


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
