"""Whose turn it is, whose task it is, and what becomes of the tasks of the dead."""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, make_url, text, update

from condastore.database import Database, epoch
from condastore.errors import DatabaseUnavailable
from condastore.tables import Task, TaskState
from condastore.tasks import LEASE_S, Claim, Contact, Recovery, TaskQueue, _next, enqueue
from devtools.servers import PostgreSQLServer
from tests.databases import fresh, lasting, opened

DAY_S = 24 * 3600.0


async def add(database: Database, *tasks: tuple[str, int], kind: str = "build") -> list[int]:
    """Queues tasks, each of a namespace and with a priority; returns their ids."""
    async with database.write() as session:
        rows = [enqueue(session, kind, name, priority=priority) for name, priority in tasks]
        await session.flush()
        return [row.id for row in rows]


async def row(database: Database, task_id: int) -> Task:
    async with database.read() as session:
        found = await session.get(Task, task_id)
    assert found is not None
    return found


async def claimed(queue: TaskQueue, kinds: Iterable[str] = ("build",)) -> Claim:
    claim = await queue.claim(list(kinds))
    assert claim is not None
    return claim


async def change(database: Database, task_id: int, **values: object) -> None:
    async with database.write() as session:
        await session.execute(update(Task).where(Task.id == task_id).values(**values))


# The order


async def test_the_oldest_comes_first_and_the_most_urgent_before_it(database: Database) -> None:
    ids = await add(database, ("a", 0), ("a", 0), ("a", 5), ("a", -1))
    queue = TaskQueue(database, "me")
    assert [(await claimed(queue)).id for _ in ids] == [ids[2], ids[0], ids[1], ids[3]]
    assert await queue.claim(["build"]) is None


async def test_a_namespace_with_many_tasks_does_not_make_the_others_wait(
    database: Database,
) -> None:
    many = await add(database, *[("many", 0)] * 6)
    few = await add(database, ("few", 0), ("few", 0))
    queue = TaskQueue(database, "me")
    order = []
    for _ in range(8):
        claim = await claimed(queue)
        await queue.finish(claim.id, TaskState.DONE)
        order.append(claim.id)
    assert order == [many[0], few[0], many[1], few[1], *many[2:]]


async def test_a_namespace_with_less_at_work_comes_first(database: Database) -> None:
    first, second = await add(database, ("a", 0), ("a", 0))
    queue = TaskQueue(database, "me")
    assert (await claimed(queue)).id == first
    [other] = await add(database, ("b", 0))
    assert (await claimed(queue)).id == other
    assert (await claimed(queue)).id == second


async def test_urgency_goes_before_fairness(database: Database) -> None:
    urgent = await add(database, ("a", 1), ("a", 1))
    [other] = await add(database, ("b", 0))
    queue = TaskQueue(database, "me")
    assert [(await claimed(queue)).id for _ in range(3)] == [*urgent, other]


async def test_only_the_kinds_that_were_asked_for_are_claimed(database: Database) -> None:
    await add(database, ("a", 0))
    [deletion] = await add(database, ("b", 0), kind="delete")
    queue = TaskQueue(database, "me")
    assert (await claimed(queue, ["delete", "other"])).id == deletion
    assert await queue.claim(["delete", "other"]) is None


@dataclass
class Expected:
    """The order of tasks, told as plainly as possible."""

    waiting: dict[int, tuple[str, int]]
    working: dict[str, int]
    served: dict[str, int]

    def next(self) -> int:
        def turn(task_id: int) -> tuple[int, int, int, int]:
            name, priority = self.waiting[task_id]
            return -priority, self.working.get(name, 0), self.served.get(name, -1), task_id

        return min(self.waiting, key=turn)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    tasks=st.lists(st.tuples(st.sampled_from("abcé"), st.integers(-1, 1)), min_size=1, max_size=12),
    ends=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_the_order_is_the_one_that_is_promised(
    database_url: str, tasks: list[tuple[str, int]], ends: list[bool]
) -> None:
    async def compare() -> None:
        async with opened(database_url) as database:
            async with database.write() as session:
                await session.execute(delete(Task))
            ids = await add(database, *tasks)
            expected = Expected(dict(zip(ids, tasks, strict=True)), {}, {})
            queue = TaskQueue(database, "me")
            for number in range(len(ids)):
                claim = await claimed(queue)
                assert claim.id == expected.next()
                # The clock of the database may stand still between two claims.
                await change(database, claim.id, claimed_at=float(number))
                del expected.waiting[claim.id]
                expected.served[claim.namespace] = number
                if ends[number]:
                    await queue.finish(claim.id, TaskState.DONE)
                else:
                    working = expected.working.get(claim.namespace, 0)
                    expected.working[claim.namespace] = working + 1

    asyncio.run(compare())


async def test_no_task_is_claimed_twice(database: Database) -> None:
    ids = await add(database, *[("a", 0)] * 15, *[("b", 0)] * 15)
    queues = [TaskQueue(database, f"owner {number}") for number in range(3)]
    claims = await asyncio.gather(*(queues[number % 3].claim(["build"]) for number in range(40)))
    if not database.is_sqlite:
        # A head that another owner has locked is skipped until it is asked for again.
        claims += [await queues[0].claim(["build"]) for _ in range(40)]
    assert sorted(claim.id for claim in claims if claim) == ids


async def test_the_length_of_the_queue_does_not_matter(database: Database) -> None:
    """The plan goes from namespace to namespace and sorts nothing but their first tasks."""
    await add(database, *[(f"n{number % 20}", 0) for number in range(2000)])
    async with database.read() as session:
        statement = (
            _next(("build",))
            .params(owner="me")
            .compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        )
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        steps = await session.execute(text(f"{explain} {statement}"))
        plan = [step[-1].strip() for step in steps]
    if database.is_sqlite:
        scanned = {step for step in plan if step.startswith("SCAN")}
        assert scanned == {"SCAN names", "SCAN heads"}
        assert not any(step.startswith("USE TEMP B-TREE FOR GROUP BY") for step in plan)
        assert any("namespace>?" in step for step in plan)
    else:
        assert not any("Seq Scan" in step for step in plan)
        [served] = [step for step in plan if "claimed_at <=" in step]
        assert served.startswith("Index Cond")


# The lease


async def test_a_claim_says_what_to_do_and_counts(database: Database) -> None:
    async with database.write() as session:
        enqueue(session, "build", "a", payload={"x": [1, None]})
    queue = TaskQueue(database, "me")
    claim = await claimed(queue)
    assert (claim.kind, claim.namespace, claim.payload) == ("build", "a", {"x": [1, None]})
    assert (claim.attempts, claim.cancel_requested) == (1, False)
    found = await row(database, claim.id)
    assert (found.state, found.lease_owner) == (TaskState.RUNNING, "me")
    assert found.lease_until is not None and found.claimed_at is not None
    assert 30 <= found.lease_until - found.claimed_at + 0.1 <= 30.2


async def test_renewing_tells_what_is_lost_and_what_is_cancelled(database: Database) -> None:
    ids = await add(database, *[("a", 0)] * 4)
    queue = TaskQueue(database, "me")
    for _ in ids:
        await claimed(queue)
    kept, stolen, cancelled, ended = ids
    await change(database, stolen, lease_owner="other")
    await change(database, cancelled, cancel_requested=True)
    await queue.finish(ended, TaskState.DONE)
    await change(database, kept, lease_until=0.0)
    assert await queue.renew(ids) == ({kept, cancelled}, {cancelled})
    assert ((await row(database, kept)).lease_until or 0) > 1e9
    assert await queue.renew([]) == (set(), set())


async def test_only_the_owner_ends_a_task(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    await claimed(TaskQueue(database, "me"))
    other = TaskQueue(database, "other")
    await other.finish(task_id, TaskState.DONE)
    await other.release(task_id)
    await other.retry(task_id, 0, "why")
    assert (await row(database, task_id)).state == TaskState.RUNNING


async def test_how_a_task_ended_is_recorded_once(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    queue = TaskQueue(database, "me")
    await claimed(queue)
    await queue.finish(task_id, TaskState.FAILED, error="broken")
    await queue.finish(task_id, TaskState.DONE, result={"x": 1})
    found = await row(database, task_id)
    assert (found.state, found.error, found.result) == (TaskState.FAILED, "broken", None)
    assert found.ended_on is not None
    assert found.lease_until is None


async def test_a_released_task_is_as_if_it_had_not_been_claimed(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    queue = TaskQueue(database, "me")
    for _ in range(3):
        assert (await claimed(queue)).attempts == 1
        await queue.release(task_id)


async def test_a_retried_task_waits(database: Database) -> None:
    first, second = await add(database, ("a", 0), ("a", 0))
    queue = TaskQueue(database, "me")
    assert (await claimed(queue)).id == first
    await queue.retry(first, 60, "later")
    assert (await claimed(queue)).id == second
    assert await queue.claim(["build"]) is None
    delay_s = await queue.next_start(["build"])
    assert delay_s is not None
    assert 55 < delay_s <= 60
    assert await queue.next_start(["delete"]) is None
    await change(database, first, not_before=1.0)
    again = await claimed(queue)
    assert (again.id, again.attempts) == (first, 2)


async def test_a_task_that_waits_does_not_hide_those_behind_it(database: Database) -> None:
    waiting, ready = await add(database, ("a", 5), ("a", 0))
    await change(database, waiting, not_before=epoch() + 60)
    assert (await claimed(TaskQueue(database, "me"))).id == ready


# A clock that was set back by a day (F47)


async def test_a_retry_does_not_wait_for_a_clock_that_was_set_back(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    await change(database, task_id, not_before=epoch() + DAY_S)
    queue = TaskQueue(database, "me")
    assert await queue.next_start(["build"]) == 0
    assert (await claimed(queue)).id == task_id


async def test_a_lease_of_before_the_clock_was_set_back_is_over(database: Database) -> None:
    lost, fresh = await add(database, ("a", 0), ("a", 0))
    queue = TaskQueue(database, "me")
    for task_id in (lost, fresh):
        assert (await claimed(queue)).id == task_id
    await change(database, lost, lease_until=epoch() + DAY_S)
    assert [claim.id for claim in (await queue.recover()).queued] == [lost]
    assert (await row(database, fresh)).state == TaskState.RUNNING


async def test_who_was_served_before_the_clock_was_set_back_gets_his_turn(
    database: Database,
) -> None:
    served, *other = await add(database, ("a", 0), *[("b", 0)] * 3)
    queue = TaskQueue(database, "me")
    for task_id in (served, other[0]):
        assert (await claimed(queue)).id == task_id
        await queue.finish(task_id, TaskState.DONE)
    await change(database, served, claimed_at=epoch() + DAY_S)
    [waiting] = await add(database, ("a", 0))
    assert (await claimed(queue)).id == waiting


async def test_a_cancelled_task_that_went_back_to_the_queue_says_so(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    queue = TaskQueue(database, "me")
    await claimed(queue)
    await change(database, task_id, cancel_requested=True)
    await queue.release(task_id)
    assert (await claimed(queue)).cancel_requested


# After a crash


async def test_the_tasks_of_a_dead_owner_are_taken_over(database: Database) -> None:
    ids = await add(database, *[("a", 0)] * 5)
    dead, queue = TaskQueue(database, "dead"), TaskQueue(database, "me")
    for _ in ids[:3]:
        await claimed(dead)
    mine = await claimed(queue)
    queued, cancelled, deadly = ids[:3]
    await change(database, cancelled, cancel_requested=True, deaths=1)
    await change(database, deadly, deaths=1)
    await change(database, ids[0], lease_until=0.0)
    async with database.write() as session:
        await session.execute(update(Task).values(lease_until=0.0))

    recovery = await (await lasting(queue)).recover(running=[mine.id])

    assert [claim.id for claim in recovery.queued] == [queued]
    assert [claim.id for claim in recovery.canceled] == [cancelled]
    assert [claim.id for claim in recovery.deadly] == [deadly]
    assert recovery.exhausted == []
    states = {task_id: (await row(database, task_id)).state for task_id in ids}
    assert states[queued] == TaskState.QUEUED
    assert states[mine.id] == TaskState.RUNNING
    assert states[ids[4]] == TaskState.QUEUED
    # The owner ends these when what they were about is settled; until then they run.
    assert states[cancelled] == states[deadly] == TaskState.RUNNING
    await queue.finish(cancelled, TaskState.CANCELED)
    assert (await row(database, cancelled)).state == TaskState.CANCELED


async def test_the_next_daemon_on_a_directory_takes_over_at_once(database: Database) -> None:
    ids = await add(database, *[("a", 0)] * 4)
    for owner in ("host-1-dead", "host-1-crashed", "host-2-alive", "host-11-alive"):
        await claimed(TaskQueue(database, owner))
    recovery = await TaskQueue(database, "host-1-heir", directory="host-1").recover()
    left = [] if database.is_sqlite else ids[2:]
    assert [claim.id for claim in recovery.queued] == [id_ for id_ in ids if id_ not in left]
    for task_id in left:
        assert (await row(database, task_id)).state == TaskState.RUNNING


async def test_an_own_task_whose_end_was_not_recorded_is_taken_over(database: Database) -> None:
    lost, at_work, fresh = await add(database, *[("a", 0)] * 3)
    queue = TaskQueue(database, "me")
    for _ in range(3):
        await claimed(queue)
    await change(database, lost, lease_until=0.0)
    await change(database, at_work, lease_until=0.0)

    recovery = await queue.recover(running=[at_work])

    assert [claim.id for claim in recovery.queued] == [lost]
    generation = database.generation
    assert (await queue.recover(running=[at_work])).queued == []
    assert database.generation == generation, "it was looked for by a write"
    assert (await row(database, lost)).state == TaskState.QUEUED
    assert (await row(database, at_work)).state == TaskState.RUNNING
    assert (await row(database, fresh)).state == TaskState.RUNNING


async def test_a_crash_in_the_recovery_loses_nothing(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    await claimed(TaskQueue(database, "dead"))
    await change(database, task_id, cancel_requested=True)
    for owner in ("second", "third"):
        async with database.write() as session:
            await session.execute(update(Task).values(lease_until=0.0))
        recovery = await (await lasting(TaskQueue(database, owner))).recover()
        assert [claim.id for claim in recovery.canceled] == [task_id]


async def test_F33_a_lease_that_ended_while_the_database_was_away_can_be_renewed(
    postgresql: PostgreSQLServer,
) -> None:
    url = await fresh(postgresql)
    user = str(make_url(url).username)
    async with opened(url) as database, contextlib.AsyncExitStack() as stack:
        administrator = await asyncpg.connect(postgresql.url())
        stack.push_async_callback(administrator.close)
        [task_id] = await add(database, ("a", 0))
        one = TaskQueue(database, "a-one", directory="a")
        other = await lasting(TaskQueue(database, "b-other", directory="b"))
        await claimed(one)

        await administrator.execute(f"ALTER ROLE {user} CONNECTION LIMIT 0")
        await administrator.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{user}'"
        )
        with pytest.raises(DatabaseUnavailable):
            await other.recover()
        await administrator.execute(f"ALTER ROLE {user} CONNECTION LIMIT 10")
        # As if that had taken as long as a lease.
        await change(database, task_id, lease_until=epoch() - 1)

        assert await other.recover() == Recovery()
        assert await one.renew([task_id]) == ({task_id}, set())
        await change(database, task_id, lease_until=epoch() - 1)
        # It has had the time of a lease.
        assert [claim.id for claim in (await (await lasting(other)).recover()).queued] == [task_id]


def test_contact_with_the_database_lasts_while_its_clock_goes_on_evenly() -> None:
    contact = Contact()
    looks = [1000 + 10 * n for n in range(5)]
    assert [contact.reached(now) for now in looks] == [False, False, False, True, True]
    # One look is missed, or hung; the clock jumps ahead; it is set back; the database is away.
    assert not contact.reached(now := looks[-1] + 25)
    assert not contact.reached(now + LEASE_S)
    assert not contact.reached(now)
    assert [contact.reached(now + 10 * n) for n in range(1, 4)] == [False, False, True]
    contact.lost()
    assert not contact.reached(now + 40)


async def dies(database: Database, heir: str) -> Recovery:
    """Every owner of a task dies; returns what became of their tasks."""
    async with database.write() as session:
        await session.execute(update(Task).values(lease_until=0.0))
    return await (await lasting(TaskQueue(database, heir))).recover()


async def test_F20_a_task_during_which_two_daemons_died_is_given_up(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    queue = TaskQueue(database, "first", max_attempts=9)
    await claimed(queue)
    # That it failed, or that a daemon was stopped, says nothing about it.
    await queue.retry(task_id, 0, "why")
    await claimed(queue)
    await queue.release(task_id)
    for death in (1, 2):
        claim = await claimed(TaskQueue(database, f"owner {death}"))
        assert (claim.deaths, claim.tries) == (death - 1, 2)
        recovery = await dies(database, f"heir {death}")
        assert len(recovery.queued) == (death == 1)
        assert [claim.deaths for claim in recovery.deadly] == [2] * (death == 2)
    # The heir dies before it has settled that.
    assert [claim.deaths for claim in (await dies(database, "last")).deadly] == [2]


async def test_that_a_daemon_died_is_no_try_that_failed(database: Database) -> None:
    [task_id] = await add(database, ("a", 0))
    await claimed(TaskQueue(database, "dead"))
    await dies(database, "heir")
    queue = TaskQueue(database, "me", max_attempts=1)
    claim = await claimed(queue)
    assert (claim.attempts, claim.tries) == (2, 1)
    # Its end could not be recorded, which nobody died of.
    await change(database, task_id, lease_until=0.0)
    recovery = await queue.recover()
    assert [(claim.id, claim.deaths) for claim in recovery.exhausted] == [(task_id, 1)]


async def test_F20_a_daemon_runs_one_suspect_at_a_time(database: Database) -> None:
    suspects = await add(database, ("a", 0), ("b", 0))
    for _ in suspects:
        await claimed(TaskQueue(database, "dead"))
    await dies(database, "heir")
    [late] = await add(database, ("a", -1))
    queue, other = TaskQueue(database, "me"), TaskQueue(database, "other")

    assert (await claimed(queue)).id == suspects[0]
    assert (await claimed(queue)).id == late, "a suspect holds up those that are none"
    assert await queue.claim(["build"]) is None
    assert await queue.next_start(["build"]) is None, "it would be looked for all the time"
    # A daemon is only in danger of what it runs itself.
    if not database.is_sqlite:
        assert (await claimed(other)).id == suspects[1]
        await other.release(suspects[1])
    await queue.finish(suspects[0], TaskState.DONE)
    assert (await claimed(queue)).id == suspects[1]


async def test_F20_lanes_that_claim_at_once_take_one_suspect(database: Database) -> None:
    queue = TaskQueue(database, "me")
    kinds = ["build", "image", "tidy"]
    await asyncio.gather(*(queue.next_start(kinds) for _ in kinds))
    for _ in range(10):
        async with database.write() as session:
            await session.execute(delete(Task))
            session.add_all(Task(kind=kind, namespace="a", deaths=1) for kind in kinds)
        claims = await asyncio.gather(*(queue.claim([kind]) for kind in kinds))
        assert len([claim for claim in claims if claim is not None]) == 1
