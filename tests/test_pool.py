"""The pool at work: its bounds, its stops, its retries, its end, and a database that goes away."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from condastore.database import Database
from condastore.errors import DatabaseUnavailable
from condastore.pool import DEADLY, GiveUp, Pool, Retry, Run, Stop, Work
from condastore.tables import Task, TaskState
from condastore.tasks import Claim, Recovery, TaskQueue, enqueue
from tests.databases import URLS, lasting, opened, traced
from tests.patience import PATIENCE_S

Handler = Callable[[Run], Awaitable[dict[str, Any] | None]]


@dataclass
class Stage:
    """What the tasks do, and what was seen of them."""

    handler: Handler | None = None
    runs: list[Run] = field(default_factory=list)
    at_work: set[int] = field(default_factory=set)
    most_at_work: int = 0
    stopped: dict[int, Stop | None] = field(default_factory=dict)
    abandoned: list[tuple[int, Stop | str]] = field(default_factory=list)

    async def run(self, run: Run) -> dict[str, Any] | None:
        self.runs.append(run)
        self.at_work.add(run.claim.id)
        self.most_at_work = max(self.most_at_work, len(self.at_work))
        try:
            return await self.handler(run) if self.handler else {"done": run.claim.id}
        except asyncio.CancelledError:
            self.stopped[run.claim.id] = run.stop
            raise
        finally:
            self.at_work.discard(run.claim.id)

    async def abandon(self, claim: Claim, why: Stop | str) -> None:
        self.abandoned.append((claim.id, why))

    def work(self, lane: str = "builds", deadline_s: float | None = None) -> Work:
        return Work(self.run, self.abandon, lane, deadline_s)


async def forever(_: Run) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def stage() -> Stage:
    return Stage()


def pool_of(database: Database, works: dict[str, Work], owner: str = "me", size: int = 2) -> Pool:
    lanes = dict.fromkeys((work.lane for work in works.values()), size)
    return Pool(TaskQueue(database, owner), works, lanes)


async def recovered(database: Database, works: dict[str, Work], owner: str) -> Recovery:
    """What a daemon takes over that has been there for a while."""
    return await Pool(await lasting(TaskQueue(database, owner)), works, {"builds": 1}).recover()


@asynccontextmanager
async def at_work(pool: Pool, drain_s: float = 0) -> AsyncIterator[None]:
    """The pool runs within the block, and has ended after it."""
    running = asyncio.create_task(pool.run())
    try:
        yield
    finally:
        await pool.drain(drain_s)
        async with asyncio.timeout(PATIENCE_S):
            await running


async def add(database: Database, pool: Pool | None, count: int = 1, **values: Any) -> list[int]:
    async with database.write() as session:
        rows = [enqueue(session, values.get("kind", "build"), "default") for _ in range(count)]
        await session.flush()
        ids = [row.id for row in rows]
    if pool is not None:
        pool.wake()
    return ids


async def states(database: Database) -> list[TaskState]:
    async with database.read() as session:
        return list(await session.scalars(select(Task.state).order_by(Task.id)))


async def row(database: Database, task_id: int) -> Task:
    async with database.read() as session:
        found = await session.get(Task, task_id)
    assert found is not None
    return found


async def ended(database: Database, *task_ids: int) -> list[TaskState]:
    """Waits until the tasks have ended."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            found = [(await row(database, task_id)).state for task_id in task_ids]
            if not {TaskState.QUEUED, TaskState.RUNNING} & set(found):
                return found
            await asyncio.sleep(0.005)


async def eventually(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


# Work


async def test_a_task_runs_and_its_result_is_kept(database: Database, stage: Stage) -> None:
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        assert await ended(database, task_id) == [TaskState.DONE]
    assert (await row(database, task_id)).result == {"done": task_id}
    assert stage.abandoned == []


async def test_a_lane_runs_so_many_at_once_and_another_does_not_wait(
    database: Database, stage: Stage
) -> None:
    stage.handler = forever
    other = Stage()
    pool = pool_of(database, {"build": stage.work(), "delete": other.work("housekeeping")}, size=3)
    async with at_work(pool):
        await add(database, pool, 7)
        await eventually(lambda: len(stage.at_work) == 3)
        deletions = await add(database, pool, 2, kind="delete")
        await ended(database, *deletions)
        assert stage.most_at_work == 3
        await eventually(lambda: pool.running == 3)


async def test_a_lane_that_is_held_claims_nothing_and_another_goes_on(
    database: Database, stage: Stage
) -> None:
    other = Stage()
    pool = pool_of(database, {"build": stage.work(), "tidy": other.work("housekeeping")})
    pool.hold(["builds"])
    async with at_work(pool):
        held = await add(database, pool)
        tidied = await add(database, pool, kind="tidy")
        assert await ended(database, *tidied) == [TaskState.DONE]
        assert (await row(database, held[0])).state == TaskState.QUEUED
        assert stage.runs == []
        pool.hold([])
        assert await ended(database, *held) == [TaskState.DONE]


async def test_a_task_that_ends_makes_room_at_once(database: Database, stage: Stage) -> None:
    async def short(_: Run) -> None:
        await asyncio.sleep(0.002)

    stage.handler = short
    pool = pool_of(database, {"build": stage.work()})
    ids = await add(database, None, 12)
    async with at_work(pool), asyncio.timeout(PATIENCE_S):
        assert await ended(database, *ids) == [TaskState.DONE] * 12
    assert stage.most_at_work <= 2


async def test_a_task_that_queues_another_needs_to_wake_nobody(
    database: Database, stage: Stage
) -> None:
    other = Stage()

    async def queue_another(_: Run) -> None:
        await add(database, None, kind="delete")

    stage.handler = queue_another
    pool = pool_of(database, {"build": stage.work(), "delete": other.work("housekeeping")})
    async with at_work(pool):
        await add(database, pool)
        await eventually(lambda: other.runs)


# Failures


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condastore.pool.RETRY_DELAYS_S", (0.01,))
    monkeypatch.setattr("condastore.pool.RECORD_DELAYS_S", (0.01, 0.01, 0.01))


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Retry("the disk is busy"), "the disk is busy"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ZeroDivisionError("secret"), "internal error: ZeroDivisionError"),
    ],
)
@pytest.mark.usefixtures("impatient")
async def test_a_failure_is_tried_again_a_limited_number_of_times(
    database: Database, stage: Stage, error: Exception, message: str
) -> None:
    async def fail(_: Run) -> None:
        raise error

    stage.handler = fail
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        assert await ended(database, task_id) == [TaskState.FAILED]
    assert [run.claim.attempts for run in stage.runs] == [1, 2, 3]
    assert stage.abandoned == [(task_id, message)]
    assert (await row(database, task_id)).error == message


async def test_a_failure_whose_reason_stays_is_not_tried_again(
    database: Database, stage: Stage
) -> None:
    async def fail(_: Run) -> None:
        raise GiveUp("there is nothing to pack")

    stage.handler = fail
    pool = pool_of(database, {"archive": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool, kind="archive")
        assert await ended(database, task_id) == [TaskState.FAILED]
    assert len(stage.runs) == 1
    assert stage.abandoned == [(task_id, "there is nothing to pack")]
    assert (await row(database, task_id)).error == "there is nothing to pack"


@pytest.mark.usefixtures("impatient")
async def test_a_failure_that_goes_away_is_forgotten(database: Database, stage: Stage) -> None:
    async def fail_once(run: Run) -> None:
        if run.claim.attempts == 1:
            raise Retry("not yet")

    stage.handler = fail_once
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        assert await ended(database, task_id) == [TaskState.DONE]
    assert stage.abandoned == []
    assert (await row(database, task_id)).error is None


# Stops


async def test_a_running_task_is_cancelled_and_settled(database: Database, stage: Stage) -> None:
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
        pool.stop(task_id, Stop.CANCELED)
        pool.stop(task_id, Stop.DEADLINE)
        assert await ended(database, task_id) == [TaskState.CANCELED]
    assert stage.stopped == {task_id: Stop.CANCELED}
    assert stage.abandoned == [(task_id, Stop.CANCELED)]


async def test_a_task_that_is_cancelled_before_its_first_step_is_settled_without_one(
    database: Database, stage: Stage
) -> None:
    [task_id] = await add(database, None)
    async with database.write() as session:
        await session.execute(update(Task).values(cancel_requested=True))
    async with at_work(pool_of(database, {"build": stage.work()})):
        assert await ended(database, task_id) == [TaskState.CANCELED]
    assert stage.runs == []
    assert stage.abandoned == [(task_id, Stop.CANCELED)]


async def test_a_stop_at_the_very_start_is_not_lost(database: Database, stage: Stage) -> None:
    """The task exists, but its coroutine has not been entered."""
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        for _ in range(10):
            [task_id] = await add(database, pool)
            while not pool.running:  # noqa: ASYNC110
                await asyncio.sleep(0)
            pool.stop(task_id, Stop.CANCELED)
            assert await ended(database, task_id) == [TaskState.CANCELED]
            await eventually(lambda: not pool.running)
    assert {why for _, why in stage.abandoned} == {Stop.CANCELED}
    assert len(stage.abandoned) == 10


async def test_a_stop_that_comes_too_late_changes_nothing(database: Database, stage: Stage) -> None:
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await ended(database, task_id)
        pool.stop(task_id, Stop.CANCELED)
        pool.stop(999, Stop.CANCELED)
    assert await states(database) == [TaskState.DONE]


async def test_a_cancel_within_a_failing_handler_is_settled_too(
    database: Database, stage: Stage
) -> None:
    """The handler is already on its way out when the cancellation comes."""
    failing = asyncio.Event()

    async def fail_slowly(_: Run) -> None:
        try:
            raise OSError("broken")
        except OSError:
            failing.set()
            await asyncio.sleep(2 * PATIENCE_S)
            raise

    stage.handler = fail_slowly
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await failing.wait()
        pool.stop(task_id, Stop.CANCELED)
        assert await ended(database, task_id) == [TaskState.CANCELED]
    assert stage.abandoned == [(task_id, Stop.CANCELED)]


async def test_a_task_that_takes_too_long_is_stopped(database: Database, stage: Stage) -> None:
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work(deadline_s=0.03)})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        assert await ended(database, task_id) == [TaskState.FAILED]
    assert stage.stopped == {task_id: Stop.DEADLINE}
    assert [why for _, why in stage.abandoned] == ["it took too long"]


async def test_a_cancel_that_only_the_database_knows_of_is_found(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another daemon on the same database took the request."""
    monkeypatch.setattr("condastore.pool.LEASE_S", 0.06)
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
        async with database.write() as session:
            await session.execute(update(Task).values(cancel_requested=True))
        assert await ended(database, task_id) == [TaskState.CANCELED]


async def test_a_task_that_was_taken_away_is_stopped_and_left_alone(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.pool.LEASE_S", 0.06)
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
        async with database.write() as session:
            await session.execute(update(Task).values(lease_owner="another"))
        await eventually(lambda: stage.stopped)
        await eventually(lambda: not pool.running)
    assert stage.stopped == {task_id: Stop.LEASE_LOST}
    assert stage.abandoned == []
    found = await row(database, task_id)
    assert (found.state, found.lease_owner) == (TaskState.RUNNING, "another")


async def test_leases_are_renewed_while_tasks_run(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.pool.LEASE_S", 0.06)
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
        for _ in range(3):
            async with database.write() as session:
                await session.execute(update(Task).values(lease_until=0.0))
            async with asyncio.timeout(PATIENCE_S):
                while not (await row(database, task_id)).lease_until:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


@pytest.mark.usefixtures("impatient")
async def test_what_was_said_of_a_lease_does_not_end_the_next_run(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for as the task was put back, and answered when that was claimed again."""
    queue = TaskQueue(database, "me")
    claimed_again = asyncio.Event()

    async def renew(_: object) -> tuple[set[int], set[int]]:
        await claimed_again.wait()
        return set(), set()

    async def perform(run: Run) -> None:
        if run.claim.attempts == 1:
            raise Retry("again")
        claimed_again.set()
        await asyncio.sleep(0.02)

    monkeypatch.setattr(queue, "renew", renew)
    stage.handler = perform
    pool = Pool(queue, {"build": stage.work()}, {"builds": 1})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        assert await ended(database, task_id) == [TaskState.DONE]
    assert stage.stopped == {}


# The end


async def test_a_drain_lets_tasks_finish_and_claims_no_more(
    database: Database, stage: Stage
) -> None:
    released = asyncio.Event()

    async def wait(_: Run) -> None:
        await released.wait()

    stage.handler = wait
    pool = pool_of(database, {"build": stage.work()}, size=1)
    async with at_work(pool, drain_s=PATIENCE_S):
        await add(database, pool, 3)
        await eventually(lambda: stage.at_work)
        asyncio.get_running_loop().call_later(0.05, released.set)
    assert await states(database) == [TaskState.DONE, TaskState.QUEUED, TaskState.QUEUED]


async def test_what_needs_no_time_to_finish_is_stopped_at_once(
    database: Database, stage: Stage
) -> None:
    stage.handler = forever
    pool = pool_of(database, {"tidy": Work(stage.run, stage.abandon, "removals", drains=False)})
    async with at_work(pool, drain_s=3600):
        (task_id,) = await add(database, pool, kind="tidy")
        await eventually(lambda: stage.at_work)
    assert stage.stopped == {task_id: Stop.SHUTDOWN}
    task = await row(database, task_id)
    assert (task.state, task.attempts) == (TaskState.QUEUED, 0)


async def test_what_outlasts_the_drain_goes_back_as_if_it_had_not_run(
    database: Database, stage: Stage
) -> None:
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool, drain_s=0.02):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
    found = await row(database, task_id)
    assert (found.state, found.attempts) == (TaskState.QUEUED, 0)
    assert stage.stopped == {task_id: Stop.SHUTDOWN}
    assert stage.abandoned == []


async def test_an_idle_pool_ends_at_once(database: Database, stage: Stage) -> None:
    pool = pool_of(database, {"build": stage.work()})
    async with asyncio.timeout(PATIENCE_S), at_work(pool, drain_s=2 * PATIENCE_S):
        await asyncio.sleep(0.01)


async def test_an_idle_pool_looks_for_tasks_without_writing(
    database: Database, stage: Stage
) -> None:
    looks = 0

    class Counted(TaskQueue):
        async def next_start(self, kinds: Any) -> float | None:
            nonlocal looks
            looks += 1
            return await super().next_start(kinds)

    pool = Pool(Counted(database, "me"), {"build": stage.work()}, {"builds": 1}, poll_s=0.01)
    async with at_work(pool):
        await eventually(lambda: looks > 1)
        generation = database.generation
        await eventually(lambda: looks > 5)
        assert database.generation == generation
        # Nobody says that there is one.
        (task_id,) = await add(database, None)
        assert await ended(database, task_id) == [TaskState.DONE]


@pytest.mark.parametrize("steps", range(0, 60, 3))
async def test_a_drain_at_any_moment_leaves_nothing_running(
    database: Database, stage: Stage, steps: int
) -> None:
    """Also in the middle of a claim, whose task would run on with nobody to stop it."""
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    await add(database, None, 3)
    async with at_work(pool):
        await asyncio.sleep(steps * 0.0002)
    assert await states(database) == [TaskState.QUEUED] * 3
    assert stage.at_work == set()


async def test_what_was_cancelled_in_the_drain_is_settled_by_the_next_daemon(
    database: Database, stage: Stage
) -> None:
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
        pool.stop(task_id, Stop.SHUTDOWN)
        async with database.write() as session:
            await session.execute(update(Task).values(cancel_requested=True))
    assert await states(database) == [TaskState.QUEUED]
    pool = pool_of(database, {"build": stage.work()}, owner="next")
    async with at_work(pool):
        assert await ended(database, task_id) == [TaskState.CANCELED]
    assert len(stage.runs) == 1


# A database that goes away


def failing(times: int, call: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """The call, after it has failed so many times."""
    left = [times]

    async def attempt(*values: Any, **named: Any) -> Any:
        if left[0] > 0:
            left[0] -= 1
            raise OperationalError("statement", {}, Exception("database or disk is full"))
        return await call(*values, **named)

    return attempt


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["claim", "finish", "renew", "next_start"])
async def test_a_database_that_is_away_for_a_moment_ends_nothing(
    database: Database,
    stage: Stage,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = TaskQueue(database, "me")
    monkeypatch.setattr(queue, name, failing(2, getattr(queue, name)))
    pool = Pool(queue, {"build": stage.work()}, {"builds": 1})
    caplog.set_level(logging.CRITICAL)
    async with at_work(pool):
        [task_id] = await add(database, pool)
        assert await ended(database, task_id) == [TaskState.DONE]
    assert len(stage.runs) == 1


@pytest.mark.usefixtures("impatient")
async def test_a_task_that_can_not_be_settled_is_left_to_the_next_daemon(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "abandon", failing(99, stage.abandon))
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
        async with database.write() as session:
            await session.execute(update(Task).values(cancel_requested=True))
        pool.stop(task_id, Stop.CANCELED)
        await eventually(lambda: not pool.running)
        # And it does not keep the others from working.
        stage.handler = None
        [other] = await add(database, pool)
        assert await ended(database, other) == [TaskState.DONE]
    assert (await row(database, task_id)).state == TaskState.RUNNING

    # On PostgreSQL others may be alive, until their leases end.
    async with database.write() as session:
        await session.execute(update(Task).values(lease_until=0.0))
    settled = Stage()
    await recovered(database, {"build": settled.work()}, "next")
    assert settled.abandoned == [(task_id, Stop.CANCELED)]
    assert (await row(database, task_id)).state == TaskState.CANCELED


@pytest.mark.usefixtures("impatient")
async def test_a_stop_while_the_database_is_away_for_a_moment_is_no_death(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def says_so_at_last(_: Run) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise DatabaseUnavailable

    stage.handler = says_so_at_last
    queue = TaskQueue(database, "me", max_attempts=1)
    monkeypatch.setattr(queue, "release", failing(9, queue.release))
    pool = Pool(queue, {"build": stage.work()}, {"builds": 1})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: stage.at_work)
    found = await row(database, task_id)
    assert (found.state, found.attempts) == (TaskState.QUEUED, 0)


@pytest.mark.usefixtures("impatient")
async def test_a_stop_does_not_wait_for_a_database_that_stays_away(
    database: Database, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.pool.LAST_RECORD_S", 0.05)
    stage.handler = forever
    queue = TaskQueue(database, "me")
    monkeypatch.setattr(queue, "release", failing(1_000_000, queue.release))
    pool = Pool(queue, {"build": stage.work()}, {"builds": 1})
    async with at_work(pool):
        await add(database, pool)
        await eventually(lambda: stage.at_work)
    assert await states(database) == [TaskState.RUNNING]


# Recovery


async def test_the_recovery_settles_what_won_t_run_again(database: Database, stage: Stage) -> None:
    ids = await add(database, None, 3)
    dead = TaskQueue(database, "dead")
    for _ in ids:
        await dead.claim(["build"])
    async with database.write() as session:
        await session.execute(update(Task).values(lease_until=0.0))
        await session.execute(update(Task).where(Task.id == ids[1]).values(cancel_requested=True))
        await session.execute(update(Task).where(Task.id == ids[2]).values(deaths=1))
    await recovered(database, {"build": stage.work()}, "me")
    assert await states(database) == [TaskState.QUEUED, TaskState.CANCELED, TaskState.FAILED]
    assert stage.abandoned == [(ids[1], Stop.CANCELED), (ids[2], DEADLY)]
    assert (await row(database, ids[2])).error == DEADLY


async def test_what_only_a_newer_version_knows_is_left_to_it(
    database: Database, stage: Stage
) -> None:
    [task_id] = await add(database, None, kind="newer")
    await TaskQueue(database, "newer daemon").claim(["newer"])
    async with database.write() as session:
        await session.execute(update(Task).values(lease_until=0.0, cancel_requested=True))
    recovery = await recovered(database, {"build": stage.work()}, "me")
    assert recovery == Recovery()
    assert (await row(database, task_id)).state == TaskState.RUNNING


# All of it at once


@dataclass(frozen=True)
class Scripted:
    """What a task does, and when somebody cancels it, in milliseconds after the start."""

    does: str
    takes_ms: int
    canceled_ms: int | None


SCRIPTS = st.lists(
    st.builds(
        Scripted,
        st.sampled_from(["finish", "fail", "retry"]),
        st.integers(0, 8),
        st.none() | st.integers(0, 30),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(scripts=SCRIPTS, size=st.integers(1, 3), drained_ms=st.integers(0, 60))
@pytest.mark.usefixtures("impatient")
def test_whatever_happens_every_task_ends_or_waits(
    database_url: str, scripts: list[Scripted], size: int, drained_ms: int
) -> None:
    async def play() -> None:
        async with opened(database_url) as database:
            async with database.write() as session:
                await session.execute(delete(Task))
            stage = Stage()
            ids = await add(database, None, len(scripts))
            script_of = dict(zip(ids, scripts, strict=True))

            async def perform(run: Run) -> None:
                script = script_of[run.claim.id]
                await asyncio.sleep(script.takes_ms / 1000)
                if script.does == "fail":
                    raise ZeroDivisionError
                if script.does == "retry" and run.claim.attempts < 2:
                    raise Retry("again")

            async def cancel(task_id: int, after_ms: int) -> None:
                await asyncio.sleep(after_ms / 1000)
                async with database.write() as session:
                    task = await session.get_one(Task, task_id)
                    running = task.state == TaskState.RUNNING
                    if task.state in (TaskState.QUEUED, TaskState.RUNNING):
                        task.cancel_requested = True
                if running:
                    pool.stop(task_id, Stop.CANCELED)

            stage.handler = perform
            pool = pool_of(database, {"build": stage.work()}, size=size)
            async with at_work(pool, drain_s=0.01), asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(drained_ms / 1000))
                for task_id, script in script_of.items():
                    if script.canceled_ms is not None:
                        group.create_task(cancel(task_id, script.canceled_ms))
            assert stage.at_work == set()
            assert stage.most_at_work <= size
            await check(database, stage, script_of)

    asyncio.run(play())


async def check(database: Database, stage: Stage, script_of: dict[int, Scripted]) -> None:
    abandoned = Counter(task_id for task_id, _ in stage.abandoned)
    for task_id, script in script_of.items():
        state = (await row(database, task_id)).state
        assert state != TaskState.RUNNING
        if state == TaskState.DONE:
            assert script.does != "fail"
        if state == TaskState.FAILED:
            assert script.does == "fail"
        if state == TaskState.CANCELED:
            assert script.canceled_ms is not None
        # A cancel may come between the end of a task and the record of it.
        if state in (TaskState.FAILED, TaskState.CANCELED):
            assert abandoned[task_id] >= 1
        if state == TaskState.QUEUED:
            assert abandoned[task_id] == 0


async def test_the_pool_ends_with_its_task_group(database: Database, stage: Stage) -> None:
    """When something else in the daemon breaks, the tasks stop and the next daemon finds them."""
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    with contextlib.suppress(ZeroDivisionError):
        try:
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                group.create_task(pool.run())
                await add(database, pool)
                await eventually(lambda: stage.at_work)
                raise ZeroDivisionError
        except* ZeroDivisionError:
            pass
    assert stage.stopped and stage.at_work == set()
    assert await states(database) == [TaskState.RUNNING]


async def test_a_task_that_came_back_to_its_old_owner_runs_once_at_a_time(
    database: Database, stage: Stage
) -> None:
    """As after a pause: another daemon took it over and queued it before this one knows of it."""
    stage.handler = forever
    pool = pool_of(database, {"build": stage.work()})
    async with at_work(pool):
        [task_id] = await add(database, pool)
        await eventually(lambda: len(stage.runs) == 1)
        async with database.write() as session:
            taken = {"state": TaskState.QUEUED, "lease_until": None}
            await session.execute(update(Task).values(taken))
        pool.wake()
        await eventually(lambda: len(stage.runs) == 2)
        assert stage.stopped == {task_id: Stop.LEASE_LOST}
        assert stage.most_at_work == 1
        assert (pool.running, pool.use) == (1, {"builds": (1, 2)})
        pool.stop(task_id, Stop.CANCELED)
        assert await ended(database, task_id) == [TaskState.CANCELED]
        await eventually(lambda: pool.running == 0)
        assert pool.use == {"builds": (0, 2)}


async def test_a_lane_can_be_made_larger_and_smaller(database: Database, stage: Stage) -> None:
    go_on = asyncio.Semaphore(0)

    async def wait(_: Run) -> None:
        await go_on.acquire()

    async def comes_to(count: int, runs: int) -> None:
        async with asyncio.timeout(60):
            while (len(stage.at_work), len(stage.runs)) != (count, runs):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    stage.handler = wait
    pool = pool_of(database, {"build": stage.work()}, size=1)
    async with at_work(pool):
        await add(database, pool, 6)
        await comes_to(1, 1)
        pool.resize("builds", 3)
        await comes_to(3, 3)
        pool.resize("builds", 1)
        assert pool.use == {"builds": (3, 1)}
        stage.most_at_work = 0
        for ended_tasks in (1, 2):
            # The other two, and the other one, run on; nothing new begins.
            go_on.release()
            await comes_to(3 - ended_tasks, 3)
        go_on.release()
        await comes_to(1, 4)
        go_on.release()
        await comes_to(1, 5)
        assert stage.most_at_work == 1


async def test_the_end_of_a_task_and_the_next_claim_wait_for_the_disk_together(
    tmp_path: Path, stage: Stage
) -> None:
    async with opened(URLS["sqlite"](tmp_path)) as database:
        ids = await add(database, None, 40)
        statements = await traced(database)
        async with at_work(pool_of(database, {"build": stage.work()}, size=4)):
            assert await ended(database, *ids) == [TaskState.DONE] * 40
    # It would be 80 if each waited by itself.
    assert statements.count("COMMIT") < 60
