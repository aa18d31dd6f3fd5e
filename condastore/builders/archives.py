"""Archives and installers: a finished prefix as one file, made by a task after the build.

A file is in the storage before it is recorded, and is made again if a crash comes between. A
build that is deleted meanwhile takes its file with it.
"""

import asyncio
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from condastore.build_rows import add_artifact, find_build, key_of, recorded_prefix
from condastore.builders.jobs import archive_job, installer_job
from condastore.builders.making import Making
from condastore.builders.process import engine
from condastore.builds import ARTIFACT_TASKS, ArtifactType, archive_key, storage_key
from condastore.cancellation import uninterrupted
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.errors import BuildError, NotFound
from condastore.faults import fault
from condastore.pool import GiveUp, Run, Stop
from condastore.prefixes import Store
from condastore.storage import Storage
from condastore.tables import Build
from condastore.tasks import Claim


class Archiver:
    """Runs the tasks of the kinds `archive` and `installer`."""

    def __init__(
        self,
        config: CondaStore,
        database: Database,
        store: Store,
        storage: Storage,
        making: Making,
    ) -> None:
        self._config = config
        self._database = database
        self._store = store
        self._storage = storage
        self._making = making

    async def archive(self, run: Run) -> dict[str, Any]:
        """Makes a build's archive."""
        return await self._make(run.claim, ArtifactType.CONDA_PACK)

    async def installer(self, run: Run) -> dict[str, Any]:
        """Makes a build's installer."""
        return await self._make(run.claim, ArtifactType.CONSTRUCTOR_INSTALLER)

    async def abandon(self, claim: Claim, why: Stop | str) -> None:
        """Removes a file that was stored, but not recorded."""
        artifact = next(found for found, kind in ARTIFACT_TASKS.items() if kind == claim.kind)
        with suppress(NotFound):
            async with self._database.read() as session:
                build = await find_build(session, claim.build_id or 0)
            key = self._key(build, artifact)
            if all(row.key != key for row in build.build_artifacts):
                await self._storage.delete(key)

    async def _make(self, claim: Claim, artifact: ArtifactType) -> dict[str, Any]:
        assert claim.build_id is not None
        async with self._database.read() as session:
            build = await find_build(session, claim.build_id)
        prefix = packable_prefix(build)
        output = self._store.scratch / uuid.uuid4().hex
        listener = self._making.begin(build.id, claim.kind)
        try:
            async with engine(self._store.scratch) as child:
                result = await child.do(self._job(artifact, build, prefix, output), listener)
            fault("artifact.made")
            await uninterrupted(self._keep(build, artifact, output))
        except BuildError as error:
            raise GiveUp(str(error)) from error
        finally:
            self._making.end(build.id, claim.kind)
            await asyncio.to_thread(output.unlink, missing_ok=True)
        return {"bytes": result["bytes"], "sha256": result["sha256"]}

    def _job(
        self, artifact: ArtifactType, build: Build, prefix: Path, output: Path
    ) -> dict[str, Any]:
        if artifact is ArtifactType.CONDA_PACK:
            return archive_job(self._config, self._store, prefix, output)
        name = build.environment.name
        return installer_job(self._config, self._store, prefix, output, name, key_of(build))

    def _key(self, build: Build, artifact: ArtifactType) -> str:
        if artifact is ArtifactType.CONDA_PACK:
            return archive_key(key_of(build), self._config.archive_format)
        return storage_key(artifact, key_of(build))

    async def _keep(self, build: Build, artifact: ArtifactType, output: Path) -> None:
        key = self._key(build, artifact)
        await self._storage.move_file(key, output)
        fault("artifact.stored")

        async def record(session: AsyncSession) -> bool:
            with suppress(NotFound):
                found = await find_build(session, build.id)
                if found.deleted_on is None:
                    add_artifact(found, artifact, key)
                    return True
            return False

        if not await self._database.insist(record):
            await self._storage.delete(key)


def packable_prefix(build: Build) -> Path:
    """Returns the prefix of a build that artifacts can be made of. Raises `GiveUp`."""
    prefix = recorded_prefix(build)
    if prefix is None or build.deleted_on is not None:
        raise GiveUp(f"build {build.id} has no files; rebuild it first")
    return prefix
