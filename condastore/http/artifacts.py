"""Stored artifacts as responses."""

from typing import Any

from starlette.responses import RedirectResponse, Response, StreamingResponse

from condastore.builds import ArtifactType, media_type
from condastore.errors import InvalidInput, NotFound
from condastore.http.operations import Call
from condastore.service import builds


async def find(
    call: Call[Any, Any], build_id: int, artifact: ArtifactType, missing: str | None = None
) -> str:
    """Returns the storage key of an artifact.

    Raises `NotFound` if the build hasn't got it, or `InvalidInput` with the text `missing`.
    """
    found = await builds.get_build(call.parts, call.caller, build_id)
    for row in found.artifacts:
        if row.artifact_type == artifact:
            return row.key
    if missing is not None:
        raise InvalidInput(missing.format(id=build_id))
    status = found.build.status
    raise NotFound(f"build {build_id} has no {artifact.lower()} (its status is {status})")


async def respond(
    call: Call[Any, Any], build_id: int, artifact: ArtifactType, missing: str | None = None
) -> Response:
    """Streams an artifact of a build from the storage, or sends there if clients can reach it.

    Memory use does not depend on its size.
    """
    key = await find(call, build_id, artifact, missing)
    storage = call.parts.storage
    size = await storage.size(key)
    if size is None:
        raise NotFound(f"the {artifact.lower()} of build {build_id} is not in the storage")
    url = await storage.url(key, media_type=media_type(artifact), filename=None)
    if url is not None:
        # The address is good for a while only, unlike the bytes.
        return RedirectResponse(url, 307, {"Cache-Control": "private, no-store"})
    return StreamingResponse(
        storage.read(key),
        media_type=media_type(artifact),
        headers={"Content-Length": str(size)},
    )
