"""What happens between a crash and the first request: the disk is made to say what the database
says (promises I1-I3)."""

import asyncio
import logging
import os
import uuid
from contextlib import suppress
from pathlib import Path

from sqlalchemy import ColumnElement, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from condastore.build_rows import find_build, log_key, move_build, prefix_of, recorded_prefix
from condastore.builders.links import LINK_WAIT_S, Links
from condastore.builds import FINAL, ArtifactType, BuildStatus, build_id_of
from condastore.database import Database
from condastore.errors import BuildError, CondaStoreError
from condastore.pool import Pool
from condastore.prefixes import Store
from condastore.storage import Storage
from condastore.streams import LogHub
from condastore.tables import Build, BuildArtifact, Environment, Namespace, Task, TaskState
from condastore.tally import Tally
from condastore.tasks import LEASE_S, TAKEOVER_S, Requeued, enqueue, enqueue_once, enqueue_switch

logger = logging.getLogger(__name__)


async def recover(
    database: Database, pool: Pool, store: Store, storage: Storage, logs: LogHub, *, alone: bool
) -> None:
    """Leaves every build queued or ended, no half-built prefix, every link right, and nothing that
    was deleted.

    Where other daemons work on the same store (not `alone`) what they have under way stays.
    """
    await _take_over(pool, None if alone else _requeue)
    if alone:
        await _requeue_builds(database, store)
        await _repair_links(database, store)
        await asyncio.to_thread(_clear, store)
    await _store_logs(database, storage, logs, set())
    async with database.write() as session:
        await _resume_removals(session)
        if any(store.trash.iterdir()):
            await enqueue_once(session, "tidy")


async def follow_a_database_that_lost_changes(
    database: Database, tally: Tally, links: Links
) -> None:
    """Lets every link name what is current now, if the database has become older than it was.

    What it no longer knows stays on the disk until `condastore check --repair` puts it away.
    """
    lost = await tally.lost()
    if not lost:
        return
    tally.problem = (
        f"the database has lost the last {lost} changes of builds, as by a failover to a replica "
        "that lagged, or an old backup; stop the daemon and run condastore check --repair"
    )
    logger.error("%s", tally.problem)
    async with database.read() as session:
        environments = (await session.scalars(select(Environment.id))).all()
    for environment_id in environments:
        try:
            await links.correct(environment_id, LINK_WAIT_S)
        except OSError as error:
            # One link that can't be switched must not keep the others from it, nor the daemon.
            logger.error("the link of environment %d can't be switched: %s", environment_id, error)
            async with database.write() as session:
                await enqueue_switch(session, environment_id)
    await tally.catch_up()


async def follow_what_is_noticed(database: Database, tally: Tally, links: Links) -> None:
    """Follows the database, for ever, when a build has found that it has become older."""
    while True:
        await tally.noticed.wait()
        tally.noticed.clear()
        try:
            await follow_a_database_that_lost_changes(database, tally, links)
        except Exception:
            logger.exception("what the database has lost can't be followed")
            tally.noticed.set()
            await asyncio.sleep(TAKEOVER_S)


async def take_over_for_ever(
    database: Database, pool: Pool, storage: Storage, logs: LogHub
) -> None:
    """Takes over the work of other daemons that die, when their leases have ended.

    What they took over from this one, and ended, leaves a log here that is nobody's any more. On
    SQLite there are none, but the end of a task of this one may not have been recorded.
    """
    told: set[str] = set()
    while True:
        await asyncio.sleep(LEASE_S if database.is_sqlite else TAKEOVER_S)
        try:
            await _take_over(pool, _requeue)
            if not database.is_sqlite:
                await _store_logs(database, storage, logs, told)
        except Exception:
            logger.exception("the work of dead daemons can't be looked for")


async def _take_over(pool: Pool, requeued: Requeued | None) -> None:
    taken = await pool.recover(requeued)
    given_up = len(taken.deadly) + len(taken.exhausted)
    if taken.queued or taken.canceled or given_up:
        logger.warning(
            "took over from a daemon that died: %d tasks queued again, %d cancelled, %d given up",
            len(taken.queued),
            len(taken.canceled),
            given_up,
        )
        pool.wake()


async def _requeue(session: AsyncSession, build_ids: list[int]) -> None:
    """Shows that builds wait again; whoever claims them throws away what is half done."""
    for build_id in build_ids:
        build = await find_build(session, build_id)
        if build.status == BuildStatus.BUILDING and recorded_prefix(build) is None:
            move_build(build, BuildStatus.QUEUED)


async def _requeue_builds(database: Database, store: Store) -> None:
    """A build that ran goes back to QUEUED, and its prefix to the trash, unless it was done."""
    running = (
        select(Task.id)
        .where(Task.build_id == Build.id, Task.kind == "build", Task.state == TaskState.RUNNING)
        .exists()
    )
    async with database.write() as session:
        left = select(Build.id).where(Build.status == BuildStatus.BUILDING)
        ids = (await session.scalars(left if database.is_sqlite else left.where(~running))).all()
        for build_id in ids:
            build = await find_build(session, build_id)
            if recorded_prefix(build) is not None:
                move_build(build, BuildStatus.COMPLETED)
                continue
            move_build(build, BuildStatus.QUEUED)
            # A store that moved to a longer path has no prefix of this build.
            with suppress(BuildError):
                await asyncio.to_thread(store.discard, prefix_of(store, build))


async def _resume_removals(session: AsyncSession) -> None:
    """Queues again the removals that were given up: what is marked as deleted must go."""
    waiting = select(Task).where(Task.state == TaskState.QUEUED, Task.kind.like("delete_%"))
    tasks = (await session.scalars(waiting)).all()
    removed = {(key, value) for task in tasks for key, value in task.payload.items()}
    removed |= {("build_id", task.build_id) for task in tasks}
    for namespace in await session.scalars(select(Namespace).where(_marked(Namespace))):
        if ("namespace_id", namespace.id) not in removed:
            payload = {"namespace_id": namespace.id}
            enqueue(session, "delete_namespace", namespace.name, payload=payload)
    environments = select(Environment, Namespace.name).join(Environment.namespace)
    of_living = environments.where(_marked(Environment), ~_marked(Namespace))
    for environment, name in await session.execute(of_living):
        if ("environment_id", environment.id) not in removed:
            payload = {"environment_id": environment.id}
            enqueue(session, "delete_environment", name, payload=payload)
    builds = (
        select(Build.id, Namespace.name)
        .join(Build.environment)
        .join(Environment.namespace)
        .where(_marked(Build), ~_marked(Environment))
        .where(Build.build_artifacts.any(artifact_type=ArtifactType.DIRECTORY))
    )
    for build_id, name in await session.execute(builds):
        if ("build_id", build_id) not in removed:
            enqueue(session, "delete_build", name, build_id=build_id)


def _marked(table: type[Build | Environment | Namespace]) -> ColumnElement[bool]:
    return table.deleted_on.is_not(None)


async def _repair_links(database: Database, store: Store) -> None:
    """Does the switches that a crash prevented after their commit."""
    query = (
        select(Environment, BuildArtifact.key)
        .join(Build, Build.id == Environment.current_build_id)
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .where(
            Build.status == BuildStatus.COMPLETED,
            Build.deleted_on.is_(None),
            Build.build_key_version != 3,
            Environment.deleted_on.is_(None),
            BuildArtifact.artifact_type == ArtifactType.DIRECTORY,
        )
        .options(joinedload(Environment.namespace))
    )
    async with database.read() as session:
        rows = (await session.execute(query)).all()
    links = [
        (store.environment_link(environment.namespace.name, environment.name), Path(prefix))
        for environment, prefix in rows
    ]
    await asyncio.to_thread(_publish_all, store, links)


def _publish_all(store: Store, links: list[tuple[Path, Path]]) -> None:
    for link, prefix in links:
        if not prefix.is_dir():
            logger.error("%s is gone; the environment %s can't be used", prefix, link.name)
            continue
        try:
            store.publish(link, prefix)
        except OSError as error:
            # One link that can't be switched must not keep the daemon from serving the others.
            logger.error("the link %s can't be switched to %s: %s", link, prefix, error)


def _clear(store: Store) -> None:
    """Moves what dead children left to the trash; nothing runs yet."""
    for directory in (store.scratch, store.packages / "work"):
        for entry in list(directory.iterdir()) if directory.is_dir() else []:
            os.rename(entry, store.trash / uuid.uuid4().hex)


async def _store_logs(database: Database, storage: Storage, logs: LogHub, told: set[str]) -> None:
    """Stores the logs of builds that have ended; those of queued builds wait for them.

    `told` are the logs of no build, each of which is told once.
    """
    for name in await asyncio.to_thread(logs.unstored):
        try:
            build_id = build_id_of(Path(name).stem)
            async with database.read() as session:
                query = select(Build.id).where(Build.hash == Path(name).stem)
                build = await find_build(session, build_id or await session.scalar(query) or 0)
        except CondaStoreError:
            if name not in told:
                logger.warning("the log %s belongs to no build", name)
            told.add(name)
            continue
        if build.status not in FINAL or logs.live(build.id) is not None:
            continue
        if not database.is_sqlite and await storage.size(log_key(build)) is not None:
            # Another daemon took over the build, and has stored the whole of its own.
            logs.forget(log_key(build))
        else:
            await logs.end(build.id, log_key(build), build.status)
