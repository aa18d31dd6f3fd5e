"""Stored artifacts as responses."""

from typing import Any

from starlette.responses import Response

from condastore.builds import ArtifactType, file_suffix, media_type
from condastore.errors import InvalidInput, NotFound
from condastore.http.bytes import Download, respond
from condastore.http.operations import Call
from condastore.service import builds

# A browser shows the others.
_SAVED = (ArtifactType.CONDA_PACK, ArtifactType.CONSTRUCTOR_INSTALLER)


async def answer(
    call: Call[Any, Any], build_id: int, artifact: ArtifactType, missing: str | None = None
) -> Response:
    """Streams an artifact of a build from the storage, or a range of it.

    Raises `NotFound` if the build hasn't got it, or `InvalidInput` with the text `missing`.
    """
    found = await builds.get_build(call.parts, call.caller, build_id)
    key = next((row.key for row in found.artifacts if row.artifact_type == artifact), None)
    if key is None and missing is not None:
        raise InvalidInput(missing.format(id=build_id))
    if key is None:
        status = found.build.status
        raise NotFound(f"build {build_id} has no {artifact.lower()} (its status is {status})")
    saved, name = artifact in _SAVED, found.arn.partition("/")[2]
    filename = f"{name}-{build_id}{file_suffix(artifact, key)}" if saved else None
    wanted = Download(key, media_type(artifact, key), filename=filename)
    response = await respond(call.request, call.parts.storage, wanted)
    if response is None:
        raise NotFound(f"the {artifact.lower()} of build {build_id} is not in the storage")
    return response
