"""Rows of artifacts against the storage, both ways."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from sqlalchemy import delete, select

from condastore.artifact_rows import queue_artifacts
from condastore.build_rows import find_build, recorded_prefix
from condastore.builds import ARTIFACT_TASKS, ArtifactType
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene, build_named
from condastore.storage.base import key_parts
from condastore.tables import Build, BuildArtifact

_NOT_FILES = (ArtifactType.DIRECTORY, ArtifactType.DOCKER_MANIFEST)
_FOLDERS = ("logs", "lockfile", "yaml", "archive", "installer")


async def inspect_artifacts(scene: Scene) -> AsyncIterator[Finding]:
    """Yields artifacts that are recorded and not stored, or stored and not recorded."""
    stored = {folder: await _stored(scene, folder) for folder in _FOLDERS}
    present: set[str] = set().union(*stored.values())
    query = (
        select(BuildArtifact.id, BuildArtifact.key, BuildArtifact.build_id)
        .join(Build, Build.id == BuildArtifact.build_id)
        # A build that is deleted loses its artifacts one by one.
        .where(BuildArtifact.artifact_type.not_in(_NOT_FILES), Build.deleted_on.is_(None))
    )
    recorded = select(BuildArtifact.key).where(BuildArtifact.artifact_type.not_in(_NOT_FILES))
    async with scene.database.read() as session:
        rows = (await session.execute(query)).all()
        stored_keys = set(await session.scalars(recorded))
    for row_id, key, build_id in rows:
        # Names too long for a file system are kept under others, so the listing is not enough.
        if key in present or await scene.storage.size(key) is not None:
            continue
        if await asyncio.to_thread((scene.data / key).is_file):
            continue
        yield Finding(
            "artifact without its bytes",
            f"build {build_id}: {key}",
            "forgotten, and made again if it is an archive or an installer; a lockfile comes back "
            "when the environment is built again",
            partial(_forget, scene, row_id, build_id),
        )
    known = stored_keys | {"/".join(key_parts(key)) for key in stored_keys}
    for key in sorted(present - known):
        if not await _is_log_of_a_build(scene, key):
            yield Finding(
                "stored file without a row",
                key,
                f"moved to {scene.data / 'lost'}",
                partial(scene.put_stored_away, key),
            )


async def _stored(scene: Scene, folder: str) -> set[str]:
    return {key async for key, _ in scene.storage.ages(folder)}


async def _forget(scene: Scene, row_id: int, build_id: int) -> None:
    async with scene.database.write() as session:
        row = await session.get_one(BuildArtifact, row_id)
        lost = row.artifact_type
        await session.execute(delete(BuildArtifact).where(BuildArtifact.id == row_id))
        session.expire_all()
        build = await find_build(session, build_id)
        if lost in ARTIFACT_TASKS and recorded_prefix(build) is not None:
            await queue_artifacts(session, build, [lost])


async def _is_log_of_a_build(scene: Scene, key: str) -> bool:
    """Whether a build that never came so far as to record its log has written this one."""
    if not key.startswith("logs/"):
        return False
    return await build_named(scene, Path(key).stem) is not None
