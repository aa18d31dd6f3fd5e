"""Stored artifacts as responses."""

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from condastore.builds import ArtifactType, media_type
from condastore.errors import NotFound
from condastore.http.context import caller, parts
from condastore.service import builds

NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}


async def respond(request: Request, build_id: int, artifact: ArtifactType) -> Response:
    """Streams an artifact of a build from the storage; memory use does not depend on its size."""
    services = parts(request)
    build = await builds.get_build(services, caller(request), build_id)
    keys = [row.key for row in build.build_artifacts if row.artifact_type == artifact]
    size = await services.storage.size(keys[0]) if keys else None
    if size is None:
        raise NotFound(f"build {build_id} has no {artifact.lower()} (its status is {build.status})")
    return StreamingResponse(
        services.storage.read(keys[0]),
        media_type=media_type(artifact),
        headers={"Content-Length": str(size), **NO_SNIFFING},
    )
