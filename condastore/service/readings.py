"""What is read of the daemon when somebody looks: metrics, work, health (rest-api §6)."""

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Any, Generic, TypeVar

from sqlalchemy import func, select

from condastore.builds import BuildStatus
from condastore.disk import Disk
from condastore.errors import CondaStoreError
from condastore.metrics import Reading
from condastore.service.parts import Parts
from condastore.tables import Build, Environment, Task, TaskState

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Scrapes and probes come as often as they like; what they see is at most this old.
READINGS_AGE_S = 5.0
HEALTH_AGE_S = 1.0
HEALTH_LIMIT_S = 3.0
# Without it the daemon is slower, or read-only: that is told, but the daemon works.
DISPENSABLE = ("redis", "disk", "lost")
PROBE_KEY = "health/probe"


class Cached(Generic[T]):
    """A value that is looked up again when it is old, by one at a time."""

    def __init__(self, look: Callable[[], Awaitable[T]], age_s: float) -> None:
        self._look = look
        self._age_s = age_s
        self._turn = asyncio.Lock()
        self._until = 0.0
        self._value: T | None = None

    async def get(self) -> T:
        """Returns the value."""
        async with self._turn:
            if self._value is None or time.monotonic() >= self._until:
                self._value = await self._look()
                self._until = time.monotonic() + self._age_s
            return self._value


async def readings(parts: Parts) -> list[Reading]:
    """Returns how much there is of everything."""
    async with parts.database.read() as session:
        statuses = dict(
            (await session.execute(select(Build.status, func.count()).group_by(Build.status)))
            .tuples()
            .all()
        )
        environments = await session.scalar(
            select(func.count()).where(Environment.deleted_on.is_(None))
        )
        waiting = select(Task.kind, Task.state, func.count()).where(
            Task.state.in_([TaskState.QUEUED, TaskState.RUNNING])
        )
        tasks = (await session.execute(waiting.group_by(Task.kind, Task.state))).tuples().all()
    disk = await asyncio.to_thread(shutil.disk_usage, parts.store.root)
    use = parts.pool.use
    return [
        _one("conda_store_disk_free", "Free bytes of the store's file system.", disk.free),
        _one("conda_store_disk_total", "Bytes of the store's file system.", disk.total),
        _one("conda_store_disk_usage", "Used bytes of the store's file system.", disk.used),
        *(
            _one(
                f"conda_store_build_{status.lower()}",
                f"Builds that are {status}, deleted ones included.",
                statuses.get(status, 0),
            )
            for status in BuildStatus
        ),
        _one("conda_store_environments", "Environments.", environments or 0),
        _one(
            "condastore_storage_waiting",
            "Files that wait until the storage takes them.",
            parts.storage.waiting,
        ),
        _one(
            "condastore_database_journal_bytes",
            "Bytes of SQLite's journal.",
            parts.database.journal_bytes,
        ),
        Reading(
            "condastore_tasks",
            "Tasks that wait or run.",
            {(kind, state.lower()): count for kind, state, count in tasks},
            ("kind", "state"),
        ),
        Reading(
            "condastore_pool_running",
            "Tasks that run in this daemon.",
            {(lane,): busy for lane, (busy, _) in use.items()},
            ("lane",),
        ),
        *_of_index(parts),
        *_of_disk(parts.disk),
        Reading(
            "condastore_pool_size",
            "Tasks that may run at once in this daemon.",
            {(lane,): size for lane, (_, size) in use.items()},
            ("lane",),
        ),
    ]


def _of_index(parts: Parts) -> list[Reading]:
    channels = parts.indexer.channels
    return [
        Reading(
            "condastore_index_last_success_timestamp_seconds",
            "When a channel was last seen to be as it is in the package index.",
            {
                (url,): state.refreshed.replace(tzinfo=UTC).timestamp()
                for url, state in channels.items()
                if state.refreshed is not None
            },
            ("channel",),
        ),
        Reading(
            "condastore_index_records",
            "Records of a channel that are in the package index.",
            {(url,): state.records for url, state in channels.items()},
            ("channel",),
        ),
        Reading(
            "condastore_index_failures",
            "Times that a channel could not be indexed since it last could.",
            {(url,): state.failures for url, state in channels.items()},
            ("channel",),
        ),
    ]


def _of_disk(disk: Disk) -> list[Reading]:
    rooms = {(" ".join(room.settings),): room for room in disk.rooms}
    return [
        Reading(
            "condastore_filesystem_free_bytes",
            "Free bytes of the file system that these settings name.",
            {settings: room.free_bytes for settings, room in rooms.items()},
            ("settings",),
        ),
        Reading(
            "condastore_filesystem_free_inodes",
            "Files that there is room for on the file system that these settings name.",
            {
                settings: room.free_inodes
                for settings, room in rooms.items()
                if room.free_inodes is not None
            },
            ("settings",),
        ),
        _one(
            "condastore_disk_full",
            "1 while nothing begins that takes space, because there is none.",
            disk.problem is not None,
        ),
    ]


async def summary(parts: Parts) -> str:
    """Returns in a few words what the daemon does."""
    building = f"{parts.pool.use['builds'][0]} building"
    waiting = select(func.count()).where(Task.state == TaskState.QUEUED, Task.kind == "build")
    try:
        async with parts.database.read() as session:
            queued = await session.scalar(waiting)
    except CondaStoreError as error:
        return f"{building}; {error}"
    return f"{building}, {queued} queued"


async def work(parts: Parts) -> dict[str, Any]:
    """Returns what the pool does, in the shape of a Celery worker's answers."""
    name = "condastore"
    async with parts.database.read() as session:
        query = select(Task.id, Task.kind, Task.namespace, Task.build_id, Task.state).where(
            Task.state.in_([TaskState.QUEUED, TaskState.RUNNING])
        )
        rows = (await session.execute(query.order_by(Task.id).limit(1000))).all()

    def of(state: TaskState) -> dict[str, list[dict[str, Any]]]:
        # What they are about is for those who may see it.
        return {name: [{"id": row.id, "name": row.kind} for row in rows if row.state == state]}

    return {
        "availability": {name: {"ok": "pong"}},
        "stats": {name: {"pool": {"max-concurrency": sum(n for _, n in parts.pool.use.values())}}},
        "registered_tasks": {name: parts.pool.kinds},
        "active_tasks": of(TaskState.RUNNING),
        "scheduled_tasks": of(TaskState.QUEUED),
    }


class Health:
    """Whether what everything depends on can be used."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._looking: asyncio.Future[None] | None = None

    async def check(self) -> dict[str, str | None]:
        """Returns what is wrong with each part; None where nothing is."""
        checks = {
            "database": self._parts.database.ping(),
            "storage": self._check_storage(),
            "store": self._check_store(),
        }
        *found, redis = await asyncio.gather(
            *(_problem(name, check) for name, check in checks.items()), self._redis_problem()
        )
        problems = dict(zip(checks, found, strict=True))
        if self._parts.redis is not None:
            problems["redis"] = redis
        problems["disk"] = self._parts.disk.problem
        problems["lost"] = self._parts.tally.problem
        return problems

    async def _redis_problem(self) -> str | None:
        if self._parts.redis is None:
            return None
        try:
            async with asyncio.timeout(HEALTH_LIMIT_S):
                return await self._parts.redis.problem()
        except TimeoutError:
            return f"redis does not answer within {HEALTH_LIMIT_S:g} s: logs of others come late"

    async def _check_storage(self) -> None:
        await self._parts.storage.size(PROBE_KEY)

    async def _check_store(self) -> None:
        """A file system that hangs keeps one thread, however often somebody asks."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().run_in_executor(None, self._look)
        await asyncio.shield(self._looking)

    def _look(self) -> None:
        next(self._parts.store.root.iterdir(), None)


async def _problem(name: str, check: Awaitable[None]) -> str | None:
    """Returns a sentence without a path or a secret."""
    try:
        async with asyncio.timeout(HEALTH_LIMIT_S):
            await check
    except TimeoutError:
        return f"the {name} does not answer within {HEALTH_LIMIT_S:g} s"
    except Exception as error:
        logger.warning("the %s can't be used: %s", name, error)
        return f"the {name} can't be used ({type(error).__name__}); the daemon's log says more"
    return None


def _one(name: str, help_text: str, value: float) -> Reading:
    return Reading(name, help_text, {(): value})
