"""Waiting for the image of a build: who asks for one that is not made yet has it made.

Many who wait for one image share one task. They look into the database, so it does not matter which
daemon does the work; what is written by this one is seen at once.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.artifact_rows import UNDER_WAY, queue_artifacts
from condastore.build_rows import arn, find_build
from condastore.builds import ARTIFACT_TASKS, FINAL, ArtifactType, BuildStatus
from condastore.errors import NotFound, RegistryError
from condastore.image_configuration import ContainerRegistry
from condastore.service.parts import Parts
from condastore.service.space import check_action
from condastore.tables import Build, Image, Task, TaskState, age

KIND = ARTIFACT_TASKS[ArtifactType.DOCKER_MANIFEST]
POLL_S = 0.25
FEW = 20
# Where this daemon alone writes, nothing is to be seen before it has written something. A hand on
# the database is seen after this.
LOOK_S = 1.0
# A task that is done without an image is not queued again and again.
STRANGE_S = 60.0
RETRY_AFTER_S = 30
REASON_LINES = 12
REASON_CHARACTERS = 2000


@dataclass(frozen=True)
class Pending:
    """An image that is not there yet; the text says how far it is."""

    text: str


class ImageWaiting:
    """Those who wait for images, a bounded number."""

    def __init__(self, parts: Parts, config: ContainerRegistry) -> None:
        self._parts = parts
        self._config = config
        self._waiting = 0

    async def wait(self, build_id: int) -> str | Pending:
        """Returns the digest of a build's image, or how far it is when the time is over.

        Raises `RegistryError` with the reason when there won't be one.
        """
        state = await self._look(build_id)
        if isinstance(state, str):
            return state
        async with self._place():
            return await self._watch(build_id, state)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        if self._waiting >= self._config.max_waiting:
            raise RegistryError(
                "TOOMANYREQUESTS", "too many clients are waiting for images; try again in a minute"
            )
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    async def _watch(self, build_id: int, state: Pending) -> str | Pending:
        database = self._parts.database
        deadline = time.monotonic() + self._config.hold_time
        found: str | Pending = state
        generation, looked = database.generation, time.monotonic()
        while isinstance(found, Pending) and time.monotonic() < deadline:
            # All who wait look about as often as a few would.
            await asyncio.sleep(POLL_S * max(1.0, self._waiting / FEW))
            quiet = database.is_sqlite and database.generation == generation
            if quiet and time.monotonic() < looked + LOOK_S:
                continue
            generation, looked = database.generation, time.monotonic()
            found = await self._look(build_id)
        return found

    async def _look(self, build_id: int) -> str | Pending:
        """Looks once; what is missing is queued."""
        async with self._parts.database.read() as session:
            state = await self._state(session, build_id)
            if state is not None:
                return state
            build = await find_build(session, build_id)
        await check_action(self._parts, build.environment.namespace.name, "artifact:create")
        async with self._parts.database.write() as session:
            # Another daemon may have come first; it holds the build's row until it has committed.
            await session.execute(select(Build.id).where(Build.id == build_id).with_for_update())
            state = await self._state(session, build_id)
            if state is None:
                build = await find_build(session, build_id)
                await queue_artifacts(session, build, [ArtifactType.DOCKER_MANIFEST])
        self._parts.pool.wake()
        return state or Pending(f"the image of build {build_id} is queued")

    async def _state(self, session: AsyncSession, build_id: int) -> str | Pending | None:
        """Returns the digest of an image, or how far it is; None if nobody makes it."""
        digest = await session.scalar(
            select(Image.manifest_digest).where(Image.build_id == build_id)
        )
        if digest is not None:
            return digest
        try:
            build = await find_build(session, build_id)
        except NotFound:
            raise RegistryError("MANIFEST_UNKNOWN", "the build has been deleted") from None
        if build.status not in FINAL:
            return Pending(f"build {build_id} of {arn(build)} is {build.status}")
        if build.deleted_on is not None:
            raise RegistryError("MANIFEST_UNKNOWN", f"build {build_id} has been deleted")
        if build.status != BuildStatus.COMPLETED:
            raise failed(f"build {build_id} is {build.status}", build.status_info)
        return self._task_state(build_id, await _newest_task(session, build_id))

    def _task_state(self, build_id: int, task: Task | None) -> Pending | None:
        if task is None:
            return None
        if task.state in UNDER_WAY:
            return Pending(f"the image of build {build_id} is {task.state}{self._told(build_id)}")
        done = task.state == TaskState.DONE
        remembered_s = STRANGE_S if done else self._config.retry_failed_after
        ended = task.ended_on or task.created_on
        if age(ended) > timedelta(seconds=remembered_s):
            return None
        reason = "it was made, and is gone" if done else task.error or "it was canceled"
        raise failed(f"the image of build {build_id} could not be made", reason)

    def _told(self, build_id: int) -> str:
        """Returns what this daemon knows of how far the image is."""
        progress = self._parts.making.progress(build_id, KIND)
        if progress is None:
            return ""
        done = f" {progress['done']} of {progress['total']}" if progress.get("total") else ""
        return f" ({progress['phase']}{done})"


def failed(what: str, reason: str | None) -> RegistryError:
    """Returns what the client is told of something that failed: the first lines of why."""
    lines = (reason or "").strip().splitlines()[:REASON_LINES]
    text = "\n".join([f"{what}:", *lines] if lines else [what])
    return RegistryError("MANIFEST_UNKNOWN", text[:REASON_CHARACTERS])


async def _newest_task(session: AsyncSession, build_id: int) -> Task | None:
    query = select(Task).where(Task.kind == KIND, Task.build_id == build_id)
    task: Task | None = await session.scalar(query.order_by(Task.id.desc()).limit(1))
    return task
