"""`/api/v1/build/{id}/artifacts/`: which forms a build has, and the making of others."""

from typing import Any

import msgspec

from condastore.builds import ArtifactType
from condastore.errors import InvalidInput
from condastore.http import shapes
from condastore.http.operations import Plain, live
from condastore.service import artifacts
from condastore.service.artifacts import Artifact, ArtifactState


class Progress(msgspec.Struct):
    """What is done of a phase; files, and bytes where they count."""

    phase: str
    done: int = 0
    total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    eta_s: float | None = None


class MadeArtifact(msgspec.Struct):
    """One form of a build; `size` in bytes, where it is a file that is there.

    `pending` if it is served from this machine until the storage takes it.
    """

    artifact_type: ArtifactType
    state: ArtifactState
    size: int | None
    pending: bool
    progress: Progress | None
    error: str | None

    @classmethod
    def of(cls, artifact: Artifact) -> "MadeArtifact":
        progress: Any = artifact.progress
        return cls(
            artifact.artifact_type,
            artifact.state,
            artifact.size,
            artifact.is_pending,
            None if progress is None else Progress(**progress),
            artifact.error,
        )


@live
async def list_(call: Plain) -> shapes.Data[list[MadeArtifact]]:
    """Every form that a build has or can have, with the progress of what is being made."""
    found = await artifacts.list_artifacts(call.parts, call.caller, call.id("build_id"))
    return shapes.data([MadeArtifact.of(artifact) for artifact in found])


async def make(call: Plain) -> shapes.Acknowledgement:
    """Queues the making of a form of a build, unless it is there or under way."""
    artifact, build_id = _artifact(call), call.id("build_id")
    await artifacts.make_artifact(call.parts, call.caller, build_id, artifact)
    return shapes.acknowledge(f"the {artifact} of build {build_id} is there or on its way")


async def remove(call: Plain) -> shapes.Acknowledgement:
    """Stops the making of a form of a build, or removes it."""
    artifact, build_id = _artifact(call), call.id("build_id")
    freed = await artifacts.remove_artifact(call.parts, call.caller, build_id, artifact)
    return shapes.acknowledge(f"the {artifact} of build {build_id} is gone ({freed} bytes)")


def _artifact(call: Plain) -> ArtifactType:
    name = call.path("artifact").upper()
    if name not in ArtifactType.__members__:
        raise InvalidInput(f"there is no artifact {name!r}; there are {', '.join(ArtifactType)}")
    return ArtifactType(name)
