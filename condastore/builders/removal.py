"""Switching environments between builds, and taking away what was deleted.

A prefix goes to the trash by a rename and is then removed by a child process, which takes its time
and counts the bytes that come free. Rows go last, so that whatever a crash or the end of the daemon
interrupts is done again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload

from condastore.artifact_rows import artifact_tasks
from condastore.build_rows import find_build, recorded_prefix
from condastore.builders.collection import KIND as COLLECT
from condastore.builders.jobs import remove_job, sweep_job
from condastore.builders.links import Links
from condastore.builders.process import Event, engine
from condastore.builds import FINAL, ArtifactType
from condastore.database import Database
from condastore.errors import CondaStoreError
from condastore.faults import fault
from condastore.image_configuration import ContainerRegistry
from condastore.image_rows import drop_images
from condastore.pool import Retry, Run, Stop
from condastore.prefixes import Store, trash_name
from condastore.settings import Settings
from condastore.storage import Storage
from condastore.tables import Build, BuildArtifact, Environment, Namespace, utcnow
from condastore.tally import Tally
from condastore.tasks import Claim, enqueue_once

logger = logging.getLogger(__name__)

DELETED = "deleted;"


class Remover:
    """Runs the housekeeping tasks."""

    def __init__(
        self,
        registry: ContainerRegistry,
        defaults: Settings,
        database: Database,
        store: Store,
        storage: Storage,
        links: Links,
        tally: Tally,
        files_per_s: Callable[[], float],
    ) -> None:
        """`files_per_s` returns how fast trees may be removed now; 0 is as fast as can be."""
        self._registry = registry
        self._defaults = defaults
        self._database = database
        self._store = store
        self._storage = storage
        self._links = links
        self._tally = tally
        self._files_per_s = files_per_s
        # All that is deleted is out of the way at once, but one tree is removed at a time.
        self._turn = asyncio.Lock()
        self._tidying = asyncio.Lock()

    async def update_environment(self, run: Run) -> None:
        """Points an environment's link to its current build."""
        await self._links.follow(run.claim.payload["environment_id"])

    async def delete_build(self, run: Run) -> dict[str, Any]:
        """Removes a build's files; its row stays, and says what came free."""
        assert run.claim.build_id is not None
        async with self._database.read() as session:
            build = await find_build(session, run.claim.build_id)
            await _check_idle(session, [build])
        await self._links.follow(build.environment_id)
        kept = set(self._defaults.build_artifacts_kept_on_deletion)
        freed = await self._remove_files(build, kept)
        # Why a build failed is still worth knowing when its files are gone.
        info = [build.status_info] if build.status_info else []
        if not any(line.startswith(DELETED) for line in "\n".join(info).splitlines()):
            info.append(f"{DELETED} {freed} bytes came free")
        async with self._database.write() as session:
            await session.execute(
                delete(BuildArtifact).where(
                    BuildArtifact.build_id == build.id, BuildArtifact.artifact_type.not_in(kept)
                )
            )
            await session.execute(
                update(Build)
                .where(Build.id == build.id)
                .values(size=0, status_info="\n".join(info))
            )
            if ArtifactType.DOCKER_MANIFEST not in kept:
                since = utcnow() - timedelta(seconds=self._registry.pull_grace)
                await drop_images(session, [build.id], unless_pulled_since=since)
                await enqueue_once(session, COLLECT)
            number = await self._tally.count(session)
        await self._tally.keep(number)
        return {"freed_bytes": freed}

    async def delete_environment(self, run: Run) -> dict[str, Any]:
        """Removes an environment: links, files, rows."""
        wanted = Environment.id == run.claim.payload["environment_id"]
        return {"freed_bytes": await self._remove_environments(wanted)}

    async def delete_namespace(self, run: Run) -> dict[str, Any]:
        """Removes a namespace with all its environments."""
        namespace_id = run.claim.payload["namespace_id"]
        freed = await self._remove_environments(Environment.namespace_id == namespace_id)
        async with self._database.write() as session:
            await session.execute(delete(Namespace).where(Namespace.id == namespace_id))
        return {"freed_bytes": freed}

    async def tidy(self, _: Run) -> dict[str, Any]:
        """Removes what builds that came to nothing and dead daemons have left."""
        async with self._tidying:
            paths = await asyncio.to_thread(lambda: list(self._store.trash.iterdir()))
            leaving = await self._leaving()
            freed = 0
            for path in paths:
                if path.name.partition("-")[0] not in leaving:
                    freed += await self._remove_tree(path)
            await sweep_packages(self._store)
        return {"freed_bytes": freed}

    async def _leaving(self) -> set[str]:
        """What the trash may have of builds whose removal tells what came free of them."""
        query = (
            select(BuildArtifact.key)
            .join(Build, Build.id == BuildArtifact.build_id)
            .where(
                BuildArtifact.artifact_type == ArtifactType.DIRECTORY, Build.deleted_on.is_not(None)
            )
        )
        async with self._database.read() as session:
            return {trash_name(Path(key)) for key in await session.scalars(query)}

    async def abandon(self, claim: Claim, why: Stop | str) -> None:
        """What could not be removed stays marked as deleted; the operator reads why."""
        logger.error("%s task %d was given up: %s", claim.kind, claim.id, why)

    async def _remove_environments(self, wanted: Any) -> int:
        async with self._database.read() as session:
            environments = (await session.scalars(_environments().where(wanted))).all()
            builds = await _builds_of(session, environments)
            await _check_idle(session, builds)
        for environment in environments:
            await self._links.follow(environment.id)
        for build in builds:
            await self._discard(build)
        freed = 0
        for build in builds:
            freed += await self._remove_files(build, set())
        fault("remove.files_gone")
        await self._forget(environments)
        for environment in environments:
            logger.info("environment %s is gone", environment.name)
        logger.info("%d bytes came free", freed)
        return freed

    async def _forget(self, environments: Sequence[Environment]) -> None:
        ids = [environment.id for environment in environments]
        async with self._database.write() as session:
            await session.execute(
                update(Environment).where(Environment.id.in_(ids)).values(current_build_id=None)
            )
            await session.execute(delete(Build).where(Build.environment_id.in_(ids)))
            await session.execute(delete(Environment).where(Environment.id.in_(ids)))
            # Their images went with the builds.
            await enqueue_once(session, COLLECT)
            number = await self._tally.count(session)
        await self._tally.keep(number)

    async def _discard(self, build: Build) -> list[Path]:
        """Moves a build's prefix to the trash; returns what is there of it."""
        prefix = recorded_prefix(build)
        return await asyncio.to_thread(self._store.discard, prefix) if prefix else []

    async def _remove_files(self, build: Build, kept: set[ArtifactType]) -> int:
        """Removes a build's prefix and artifacts; returns the bytes that came free."""
        freed = 0
        discarded = await self._discard(build)
        fault("remove.discarded")
        for path in discarded:
            freed += await self._remove_tree(path)
        for artifact in build.build_artifacts:
            if artifact.artifact_type not in kept | {ArtifactType.DIRECTORY}:
                freed += await self._storage.delete(artifact.key)
        logger.info("build %d is deleted; %d bytes came free", build.id, freed)
        return freed

    async def _remove_tree(self, path: Path) -> int:
        async with self._turn, engine(self._store.scratch) as child:
            result = await child.do(remove_job(path, self._files_per_s()), _ignore)
        freed: int = result["freed_bytes"]
        return freed


async def sweep_packages(store: Store) -> None:
    """Removes what dead builds left in the package store, and what a crash may have damaged."""
    async with engine(store.scratch) as child:
        result = await child.do(sweep_job(store), _ignore)
    if result["removed"]:
        logger.info("removed %d files of dead builds from the package store", result["removed"])


async def sweep_at_start(store: Store) -> None:
    """Does the same; a store that is away for a moment does not end the daemon.

    The next task `tidy` sweeps it.
    """
    try:
        await sweep_packages(store)
    except (CondaStoreError, OSError) as error:
        logger.error("the package store could not be swept: %s", error)


def _environments() -> Any:
    return select(Environment).options(joinedload(Environment.namespace))


async def _builds_of(session: AsyncSession, environments: Sequence[Environment]) -> Sequence[Build]:
    query = (
        select(Build)
        .where(Build.environment_id.in_([environment.id for environment in environments]))
        .options(selectinload(Build.build_artifacts))
    )
    return (await session.scalars(query)).all()


async def _check_idle(session: AsyncSession, builds: Sequence[Build]) -> None:
    """Raises `Retry` while something still works on builds that were cancelled."""
    if any(build.status not in FINAL for build in builds):
        raise Retry("a build is still running")
    if await artifact_tasks(session, [build.id for build in builds]):
        raise Retry("an artifact is still being made")


async def _ignore(_: Event) -> None:
    pass
