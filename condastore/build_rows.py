"""Rows of builds: how one is found, named, and moved from a status to another."""

from datetime import datetime
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from condastore.builds import (
    ArtifactType,
    BuildStatus,
    build_key,
    check_transition,
    storage_key,
)
from condastore.errors import NotFound
from condastore.prefixes import Store
from condastore.tables import (
    Build,
    BuildArtifact,
    Environment,
    Specification,
    row_id,
    utcnow,
)


async def find_build(session: AsyncSession, build_id: int, *, with_spec: bool = False) -> Build:
    """Returns a build with its specification, artifacts, environment and namespace.

    What the specification says is only there if it is asked for: that of a lockfile is megabytes
    of JSON. Raises `NotFound`, also where a row of these was lost.
    """
    specification = joinedload(Build.specification, innerjoin=True)
    if not with_spec:
        specification = specification.defer(Specification.spec, raiseload=True)
    build = await session.scalar(
        select(Build)
        .where(Build.id == row_id(build_id))
        .options(
            specification,
            joinedload(Build.environment, innerjoin=True).joinedload(
                Environment.namespace, innerjoin=True
            ),
            selectinload(Build.build_artifacts),
        )
    )
    if build is None:
        raise NotFound("build id does not exist")
    return build


def key_of(build: Build) -> str:
    """Returns the key of a build that `find_build` returned."""
    if build.build_key_version == 3 and build.hash:
        return build.hash
    return build_key(
        build.build_key_version,
        sha256=build.specification.sha256,
        scheduled_on=build.scheduled_on,
        build_id=build.id,
        name=build.specification.name,
        namespace=build.environment.namespace.name,
    )


def log_key(build: Build) -> str:
    """Returns the storage key of a build's log."""
    return storage_key(ArtifactType.LOGS, key_of(build))


def prefix_of(store: Store, build: Build) -> Path:
    """Returns where a build's prefix is made. Raises `BuildError` if its path is too long."""
    return store.prefix(build.environment.namespace.name, build.build_key_version, key_of(build))


def recorded_prefix(build: Build) -> Path | None:
    """Returns a build's prefix if it is complete and recorded: the point of no return."""
    for artifact in build.build_artifacts:
        if artifact.artifact_type == ArtifactType.DIRECTORY:
            return Path(artifact.key)
    return None


def arn(build: Build) -> str:
    """Returns what permissions on a build are checked against."""
    return f"{build.environment.namespace.name}/{build.environment.name}"


def move_build(build: Build, to: BuildStatus, info: str | None = None) -> None:
    """Moves a build within the session that it was loaded in; `info` is for its users.

    This and `lose_build` are the only writers of a build's status. Raises `Conflict` if the
    transition is not legal.
    """
    check_transition(build.status, to)
    build.status = to
    build.status_info = info
    match to:
        case BuildStatus.QUEUED:
            build.started_on = None
        case BuildStatus.BUILDING:
            build.started_on = _later(build.scheduled_on)
        case _:
            build.ended_on = _later(build.started_on or build.scheduled_on)


def _later(moment: datetime) -> datetime:
    """Returns the time; nothing ends before it has begun, even if the clock was set back."""
    return max(utcnow(), moment)


def lose_build(build: Build, info: str) -> None:
    """Records that a build's files are gone, which it was COMPLETED with: nothing but their loss
    takes that back. The build is FAILED, for the reason `info`."""
    build.build_artifacts = [
        artifact
        for artifact in build.build_artifacts
        if artifact.artifact_type != ArtifactType.DIRECTORY
    ]
    build.status, build.status_info, build.size = BuildStatus.FAILED, info, 0


def add_artifact(build: Build, artifact: ArtifactType, key: str) -> None:
    """Records that an artifact exists, once."""
    if not any(a.artifact_type == artifact and a.key == key for a in build.build_artifacts):
        build.build_artifacts.append(BuildArtifact(artifact_type=artifact, key=key))
