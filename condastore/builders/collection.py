"""Takes away what no image needs any more: manifests, layers that were kept, blobs.

What nothing refers to is doomed first and goes when a grace is over, if it is doomed still: a pull
that has begun ends, and whoever makes an image takes back what he wants (`image_rows.keep_blob`).
Rows go before files, so that nothing is promised that is not there. A file that a crash leaves
without a row is found by listing the storage. It goes much later: to a database that was restored
from a backup every blob that was made since is one.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    func,
    or_,
    select,
    union_all,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from condastore.builds import ArtifactType
from condastore.database import Database
from condastore.duties import Turn
from condastore.errors import DatabaseUnavailable
from condastore.faults import fault
from condastore.image_configuration import ContainerRegistry
from condastore.image_rows import drop_images
from condastore.oci import blob_key, digest_of_key
from condastore.pool import Pool, Run
from condastore.settings import Settings
from condastore.storage import Storage
from condastore.tables import (
    Blob,
    Build,
    Image,
    Layer,
    Manifest,
    Task,
    age,
    manifest_blobs,
    manifest_children,
    utcnow,
)
from condastore.tasks import enqueue_once
from condastore.wall_clock import wall_clock

logger = logging.getLogger(__name__)

KIND = "collect_blobs"
FOLDER = "blobs"
# Others write to the database between two transactions of this many rows.
BATCH = 500
# How often it is looked whether a regular collection is due.
LOOK_S = 3600.0


class Collector:
    """Runs the tasks of the kind `collect_blobs`."""

    def __init__(
        self, config: ContainerRegistry, defaults: Settings, database: Database, storage: Storage
    ) -> None:
        self._config = config
        self._defaults = defaults
        self._database = database
        self._storage = storage

    async def run(self, _: Run) -> dict[str, Any]:
        """Collects once; each step can be done again after a crash."""
        if not wall_clock.is_settled():
            return {"manifests": 0, "freed_bytes": 0}
        await self._drop_images()
        manifests = await self._remove_manifests()
        await self._evict_layers()
        await self._doom()
        freed = await self._remove_blobs() + await self._sweep()
        if manifests or freed:
            logger.info("collected %d manifests; %d bytes of blobs came free", manifests, freed)
        return {"manifests": manifests, "freed_bytes": freed}

    async def _drop_images(self) -> None:
        """Of builds that were deleted while somebody may have been pulling them."""
        if ArtifactType.DOCKER_MANIFEST in self._defaults.build_artifacts_kept_on_deletion:
            return
        deleted = select(Image.build_id).join(Build, Build.id == Image.build_id)
        async with self._database.write() as session:
            ids = await session.scalars(deleted.where(Build.deleted_on.is_not(None)))
            await drop_images(session, ids.all(), unless_pulled_since=self._pulled_since())

    async def _remove_manifests(self) -> int:
        """Removes the manifests that no image leads to, from the top; returns how many."""
        is_child = exists().where(manifest_children.c.child_digest == Manifest.digest)
        query = select(Manifest.digest).where(Manifest.digest.not_in(self._reachable()), ~is_child)
        removed = 0
        while True:
            async with self._database.write() as session:
                digests = (await session.scalars(query.limit(BATCH))).all()
                # What they need and lead to is forgotten by the foreign keys.
                await session.execute(delete(Manifest).where(Manifest.digest.in_(digests)))
            removed += len(digests)
            if not digests:
                return removed

    def _reachable(self) -> Any:
        """The digests of the manifests of images, of what was pulled or made a moment ago, and of
        what these lead to: the images of an index, and whatever refers to one of them."""
        recent = self._pulled_since()
        roots = union_all(
            select(Image.manifest_digest.label("digest")),
            select(Image.docker_digest).where(Image.docker_digest.is_not(None)),
            select(Manifest.digest).where(
                or_(Manifest.pulled_on > recent, Manifest.created_on > recent)
            ),
        ).subquery()
        reached = select(roots.c.digest).cte("reached", recursive=True)
        edges = union_all(
            select(
                manifest_children.c.parent_digest.label("source"),
                manifest_children.c.child_digest.label("target"),
            ),
            select(Manifest.subject, Manifest.digest).where(Manifest.subject.is_not(None)),
        ).subquery()
        following = select(edges.c.target).join(reached, reached.c.digest == edges.c.source)
        return select(reached.union(following).c.digest)

    async def _evict_layers(self) -> None:
        """Forgets layers that no image has, the longest unused first, beyond their quota."""
        unneeded = ~exists().where(manifest_blobs.c.blob_digest == Layer.blob_digest)
        query = (
            select(Layer.key, Layer.used_on, Blob.size)
            .join(Blob, Blob.digest == Layer.blob_digest)
            .where(unneeded)
            .order_by(Layer.used_on.desc(), Layer.key)
        )
        async with self._database.read() as session:
            rows = (await session.execute(query)).all()
        kept, evicted = 0, []
        for key, used_on, size in rows:
            kept += size
            # Whoever makes an image has looked for its layers a while before he records it.
            if kept > self._config.layer_cache_bytes and used_on < self._doomed_since():
                evicted.append(key)
        for start in range(0, len(evicted), BATCH):
            keys = evicted[start : start + BATCH]
            async with self._database.write() as session:
                old = Layer.used_on < self._doomed_since()
                await session.execute(delete(Layer).where(Layer.key.in_(keys), old, unneeded))

    async def _doom(self) -> None:
        async with self._database.write() as session:
            doomed = update(Blob).where(Blob.doomed_on.is_(None), *_unneeded())
            await session.execute(doomed.values(doomed_on=utcnow()))
            saved = update(Blob).where(Blob.doomed_on.is_not(None), ~and_(*_unneeded()))
            await session.execute(saved.values(doomed_on=None))

    async def _remove_blobs(self) -> int:
        """Removes the blobs whose grace is over; returns the bytes that came free."""
        freed = 0
        while True:
            async with self._database.write() as session:
                over = Blob.doomed_on < self._doomed_since()
                query = select(Blob.digest).where(over, *_unneeded()).limit(BATCH)
                digests = (await session.scalars(query.with_for_update())).all()
                await session.execute(delete(Blob).where(Blob.digest.in_(digests), *_unneeded()))
            fault("collect.rows_gone")
            freed += await self._delete_files(digests, self._config.blob_grace)
            if len(digests) < BATCH:
                return freed

    async def _delete_files(self, digests: Sequence[str], age_s: float) -> int:
        """Removes files, but none that somebody has written anew since."""
        freed = 0
        for digest in digests:
            freed += await self._storage.delete_older(blob_key(digest), age_s)
            fault("collect.file_gone")
        return freed

    async def _sweep(self) -> int:
        """Removes the files that no row knows; returns the bytes that came free."""
        freed, age_s = 0, self._config.unknown_blob_grace
        async for digests in self._files_older_than(age_s):
            async with self._database.read() as session:
                query = select(Blob.digest).where(Blob.digest.in_(digests))
                known = set(await session.scalars(query))
            unknown = [digest for digest in digests if digest not in known]
            freed += await self._delete_files(unknown, age_s)
        return freed

    async def _files_older_than(self, least_s: float) -> AsyncIterator[list[str]]:
        batch: list[str] = []
        async for key, age_s in self._storage.ages(FOLDER):
            digest = digest_of_key(key)
            if digest is not None and age_s > least_s:
                batch.append(digest)
            if len(batch) == BATCH:
                yield batch
                batch = []
        yield batch

    def _pulled_since(self) -> datetime:
        return utcnow() - timedelta(seconds=self._config.pull_grace)

    def _doomed_since(self) -> datetime:
        return utcnow() - timedelta(seconds=self._config.blob_grace)


async def collect_regularly(database: Database, pool: Pool, every_s: float, turn: Turn) -> None:
    """Queues a collection whenever the last one was long ago, also by another daemon."""
    last = select(func.max(Task.created_on)).where(Task.kind == KIND)
    while True:
        await asyncio.sleep(min(LOOK_S, every_s))
        try:
            async with database.read() as session:
                collected = await session.scalar(last)
            if collected is None or age(collected) > timedelta(seconds=every_s):
                async with database.write() as session:
                    await turn.check(session)
                    await enqueue_once(session, KIND)
                pool.wake()
        except (SQLAlchemyError, DatabaseUnavailable):
            logger.exception("a collection of blobs can't be queued; it is tried again later")


def _unneeded() -> Sequence[ColumnElement[bool]]:
    """The conditions on a blob that neither an image nor a layer that is kept needs."""
    return (
        ~exists().where(manifest_blobs.c.blob_digest == Blob.digest),
        ~exists().where(Layer.blob_digest == Blob.digest),
    )
