"""The durable task queue: what must be done, who is doing it, and until when they may.

A task is claimed for a lease that its owner renews. Namespaces take turns within a priority, so
that nobody who queues a hundred builds makes the others wait for all of them.

A task whose owner died is a *suspect*: it may have been what killed it (F20). A daemon runs one
suspect at a time, and one during which a second daemon died is not run again. So a task that kills
every daemon is found out, and none that only ran beside it is given up for it.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    bindparam,
    case,
    false,
    func,
    literal,
    nulls_first,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from condastore.changes import Change
from condastore.database import Database, epoch
from condastore.tables import Environment, Namespace, Task, TaskState, utcnow
from condastore.views import Statement
from condastore.wakeups import tell_queued

# The kind of the task that points an environment's link to its current build.
SWITCH = "update_environment_build"
LEASE_S = 30.0
# Leases of other daemons that have ended are looked for this often.
TAKEOVER_S = 10.0
MAX_DEATHS = 2
# What a task waits until, in seconds from now, is less; what is more was written before the
# database's clock was set back.
LONGEST_S = 120.0

_TABLE = cast(Table, Task.__table__)
# In the order of a claim's fields.
_CLAIMED = (
    "id",
    "kind",
    "namespace",
    "build_id",
    "payload",
    "attempts",
    "deaths",
    "lease_owner",
    "cancel_requested",
)

# Ends the task `claimed`, if it still is `owner`'s.
_ENDING = Change(
    update(_TABLE)
    .where(
        _TABLE.c.id == bindparam("claimed"),
        _TABLE.c.lease_owner == bindparam("owner"),
        _TABLE.c.state == TaskState.RUNNING,
    )
    .values(
        state=bindparam("as"),
        ended_on=bindparam("at"),
        error=bindparam("why"),
        result=bindparam("with"),
        lease_until=None,
    )
)

Requeued = Callable[[AsyncSession, list[int]], Awaitable[None]]


@dataclass(frozen=True)
class Claim:
    """A task that this process may work on."""

    id: int
    kind: str
    namespace: str
    build_id: int | None
    payload: dict[str, Any]
    attempts: int
    deaths: int = 0
    owner: str | None = None
    """Who claimed it."""
    cancel_requested: bool = False
    """Somebody cancelled it before it was put back into the queue."""

    @property
    def tries(self) -> int:
        """How often it was tried, with this time, without those that a daemon died in."""
        return self.attempts - self.deaths


@dataclass(frozen=True)
class Recovery:
    """What the tasks of a daemon that is gone became.

    Those that won't run again are claimed: what they were about must be settled, then they end.
    """

    queued: list[Claim] = field(default_factory=list)
    canceled: list[Claim] = field(default_factory=list)
    deadly: list[Claim] = field(default_factory=list)
    """During which the daemon died too often."""
    exhausted: list[Claim] = field(default_factory=list)
    """That were tried often enough."""


def enqueue(
    session: AsyncSession,
    kind: str,
    namespace: str,
    *,
    build_id: int | None = None,
    payload: dict[str, Any] | None = None,
    priority: int = 0,
) -> Task:
    """Adds a task to the session's transaction and returns it; wake the pool after the commit."""
    task = Task(
        kind=kind,
        namespace=namespace,
        build_id=build_id,
        payload=payload or {},
        priority=priority,
    )
    session.add(task)
    return task


async def enqueue_switch(session: AsyncSession, environment_id: int) -> None:
    """Adds a task that points an environment's link to its current build; as `enqueue`."""
    query = select(Namespace.name).join(Environment).where(Environment.id == environment_id)
    name = await session.scalar(query)
    if name is not None:
        enqueue(session, SWITCH, name, payload={"environment_id": environment_id})


async def enqueue_once(session: AsyncSession, kind: str) -> None:
    """Adds a task that is of no namespace, unless one of its kind waits already."""
    waiting = select(Task.id).where(Task.kind == kind, Task.state == TaskState.QUEUED).limit(1)
    if await session.scalar(waiting) is None:
        enqueue(session, kind, "")


async def holds(session: AsyncSession, claim: Claim) -> bool:
    """Whether a claim still stands; nobody else gets its task before this transaction ends.

    A lease that has ended may have been taken over. What its old owner finds out then, or still
    does, must change nothing.
    """
    mine = select(Task.id).where(
        Task.id == claim.id,
        Task.state == TaskState.RUNNING,
        Task.lease_owner == claim.owner,
        Task.attempts == claim.attempts,
    )
    return await session.scalar(mine.with_for_update()) is not None


def is_of(directory: str | None) -> ColumnElement[bool]:
    """That a task's owner is a daemon on a directory with this `DirectoryLock.identity`."""
    if directory is None:
        return false()
    return Task.lease_owner.startswith(f"{directory}-", autoescape=True)


class Contact:
    """Since when the database has been reached without a break, by its own clock.

    While one daemon can't reach it, others may not be able to renew their leases; so it gives them
    the time of a lease to do so, before it takes one that has ended for the end of its owner. The
    same when that clock has jumped.
    """

    def __init__(self) -> None:
        self._since = self._last = -math.inf

    def reached(self, now: float) -> bool:
        """Notes that the database answered; returns whether it has for as long as a lease lasts."""
        if not 0 <= now - self._last < 2 * TAKEOVER_S:
            self._since = now
        self._last = now
        return now - self._since >= LEASE_S

    def lost(self) -> None:
        """Notes that it did not."""
        self._last = -math.inf


class TaskQueue:
    """The queue as one owner sees it."""

    def __init__(
        self,
        database: Database,
        owner: str,
        *,
        directory: str | None = None,
        max_attempts: int = 3,
    ) -> None:
        """The directory is the one that the owner is on, as its lock calls it."""
        self._database = database
        self._owner = owner
        self._directory = directory
        self.max_attempts = max_attempts
        self.contact = Contact()
        # Two at once, which SQLite never has, would not see the suspect that the other takes.
        self._claiming = nullcontext() if database.is_sqlite else asyncio.Lock()

    async def claim(self, kinds: Collection[str]) -> Claim | None:
        """Claims the next task of one of these kinds; returns None when nothing is ready."""
        claiming = _claiming(tuple(kinds))
        async with self._claiming:
            found = await self._database.change(claiming, {"owner": self._owner})
        return Claim(*found[0]) if found else None

    async def next_start(self, kinds: Collection[str]) -> float | None:
        """Returns the seconds until a delayed task of these kinds is ready; None without one."""
        starting = _starting(tuple(kinds))
        values = {"owner": self._owner}
        [(delay_s,)] = await self._database.view(lambda view: view.rows(starting, values))
        return cast(float | None, delay_s)

    async def renew(self, ids: Collection[int]) -> tuple[set[int], set[int]]:
        """Extends the leases; returns the ids that are still this owner's, and those to cancel."""
        async with self._database.write() as session:
            mine = update(Task).where(
                Task.id.in_(ids), Task.lease_owner == self._owner, Task.state == TaskState.RUNNING
            )
            rows = await session.execute(
                mine.values(lease_until=epoch() + LEASE_S).returning(Task.id, Task.cancel_requested)
            )
            held = {row.id: row.cancel_requested for row in rows}
        return set(held), {task_id for task_id, cancel in held.items() if cancel}

    async def finish(
        self,
        task_id: int,
        state: TaskState,
        *,
        error: str | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Records how a claimed task ended."""
        values = {
            "claimed": task_id,
            "owner": self._owner,
            "as": state,
            "at": utcnow(),
            "why": error,
            "with": result,
        }
        await self._database.change(_ENDING, values)

    async def release(self, task_id: int) -> None:
        """Puts a claimed task back as if it had not been claimed."""
        await self._change(
            task_id, state=TaskState.QUEUED, attempts=Task.attempts - 1, lease_until=None
        )

    async def retry(self, task_id: int, after_s: float, error: str) -> None:
        """Puts a claimed task back, to be claimed again after some seconds."""
        await self._change(
            task_id,
            state=TaskState.QUEUED,
            not_before=epoch() + after_s,
            error=error,
            lease_until=None,
        )

    async def recover(
        self,
        requeued: Requeued | None = None,
        *,
        kinds: Collection[str] | None = None,
        running: Collection[int] = (),
    ) -> Recovery:
        """Takes over the tasks of owners that are gone; those of other kinds, if some are named,
        are left to a version that knows them.

        Those are the owners who used this owner's directory before, those whose lease has ended,
        if the database has been reached for as long as one (`Contact`), and this owner itself where
        it could not record an end: what it is `running` stays. On SQLite every other owner is gone,
        because the state directory has one daemon. `requeued` is called within the transaction with
        the builds whose tasks wait again, before anybody can claim these.
        """
        recovery = Recovery()
        try:
            # It is looked for all the time, and hardly ever there; a write would end what is kept.
            async with self._database.read() as session:
                gone = self._gone(await _now(session), kinds, running)
                if await session.scalar(select(Task.id).where(*gone).limit(1)) is None:
                    return recovery
            async with self._database.write() as session:
                now = await _now(session)
                gone = self._gone(now, kinds, running)
                query = select(Task).where(*gone).order_by(Task.id)
                for task in await session.scalars(query.with_for_update(skip_locked=True)):
                    self._take_over(task, recovery, now)
                builds = [claim.build_id for claim in recovery.queued if claim.kind == "build"]
                if requeued is not None and builds:
                    await requeued(session, [each for each in builds if each is not None])
        except Exception:
            self.contact.lost()
            raise
        return recovery

    def _gone(
        self, now: float, kinds: Collection[str] | None, running: Collection[int]
    ) -> list[ColumnElement[bool]]:
        """That a task's owner is gone, as was known when the database's clock said `now`."""
        mine = Task.lease_owner == self._owner
        ended = and_(_is_over(Task.lease_until, now), Task.id.not_in(running))
        if not self.contact.reached(now):
            ended = and_(ended, mine)
        dead = ~mine if self._database.is_sqlite else and_(~mine, is_of(self._directory))
        gone = [Task.state == TaskState.RUNNING, or_(ended, dead)]
        return gone if kinds is None else [*gone, Task.kind.in_(kinds)]

    def _take_over(self, task: Task, recovery: Recovery, now: float) -> None:
        if task.lease_owner != self._owner and task.deaths < MAX_DEATHS:
            task.deaths += 1
        if task.cancel_requested:
            ended = recovery.canceled
        elif task.deaths >= MAX_DEATHS:
            ended = recovery.deadly
        elif task.attempts - task.deaths >= self.max_attempts:
            ended = recovery.exhausted
        else:
            task.state, task.lease_until = TaskState.QUEUED, None
            recovery.queued.append(_claim(task))
            return
        task.lease_owner, task.lease_until = self._owner, now + LEASE_S
        ended.append(_claim(task))

    async def _change(self, task_id: int, **values: Any) -> None:
        async with self._database.write() as session:
            await session.execute(
                update(Task)
                .where(
                    Task.id == task_id,
                    Task.lease_owner == self._owner,
                    Task.state == TaskState.RUNNING,
                )
                .values(**values)
            )
            if values.get("state") is TaskState.QUEUED:
                await tell_queued(session)


@cache
def _claiming(kinds: tuple[str, ...]) -> Change:
    """Claims the task whose turn it is for `owner`, unless another has it by then."""
    table = _TABLE
    free = select(table.c.id).where(
        table.c.id == _next(kinds).scalar_subquery(), table.c.state == TaskState.QUEUED
    )
    return Change(
        update(table)
        .where(table.c.id == free.with_for_update(skip_locked=True).scalar_subquery())
        .values(
            state=TaskState.RUNNING,
            attempts=table.c.attempts + 1,
            lease_owner=bindparam("owner"),
            lease_until=epoch() + LEASE_S,
            claimed_at=epoch(),
        )
        .returning(*(table.c[name] for name in _CLAIMED))
    )


@cache
def _starting(kinds: tuple[str, ...]) -> Statement:
    """How many seconds it is until a task of these kinds is ready for `owner`."""
    waiting = *_queued(kinds), _may_run(Task)
    delay_s = case((_is_over(Task.not_before), 0.0), else_=Task.not_before - epoch())
    return Statement(select(func.min(delay_s)).where(*waiting))


def _queued(kinds: tuple[str, ...], task: Any = Task) -> tuple[Any, Any]:
    """That a task waits and is of these kinds."""
    # Parameters of their own each, so that the statement's text is made once.
    return task.state == TaskState.QUEUED, task.kind.in_([literal(kind) for kind in kinds])


def _may_run(task: Any) -> Any:
    """That a task is no suspect, or `owner` runs no other one."""
    other = aliased(Task)
    suspect = select(other.id).where(
        other.state == TaskState.RUNNING,
        other.lease_owner == bindparam("owner"),
        other.deaths > 0,
    )
    return or_(task.deaths == 0, ~suspect.correlate(None).exists())


def _is_over(until: Any, now: Any = None) -> Any:
    """That a time has come by the database's clock, or only seems to be still to come."""
    now = epoch() if now is None else now
    return or_(until <= now, until > now + LONGEST_S)


async def _now(session: AsyncSession) -> float:
    return await session.scalar(select(epoch())) or 0.0


def _claim(task: Task) -> Claim:
    return Claim(*(getattr(task, name) for name in _CLAIMED))


def _next(kinds: tuple[str, ...]) -> Any:
    """The id of the task whose turn it is, found by looking at one task a namespace."""
    queued = _queued(kinds)
    name = func.min(Task.namespace)
    # From each name to the next by the index: the queue's length doesn't matter.
    names = select(name.label("name")).where(*queued).cte("names", recursive=True)
    following = select(name).where(*queued, Task.namespace > names.c.name)
    names = names.union_all(select(following.scalar_subquery()).where(names.c.name.is_not(None)))
    candidate, first, other = aliased(Task), aliased(Task), aliased(Task)
    head = (
        select(candidate.id)
        .where(
            *_queued(kinds, candidate),
            candidate.namespace == names.c.name,
            or_(candidate.not_before == 0.0, _is_over(candidate.not_before)),
            _may_run(candidate),
        )
        .order_by(candidate.priority.desc(), candidate.id)
        .limit(1)
    )
    heads = (
        select(names.c.name, head.scalar_subquery().label("id"))
        .cte("heads")
        .prefix_with("MATERIALIZED")
    )
    # No join: for one, PostgreSQL reads the whole table.
    priority = select(first.priority).where(first.id == heads.c.id)
    running = select(func.count()).where(
        other.state == TaskState.RUNNING, other.namespace == heads.c.name
    )
    served = select(func.max(other.claimed_at)).where(
        other.namespace == heads.c.name, other.claimed_at <= epoch()
    )
    return (
        select(heads.c.id)
        .where(heads.c.id.is_not(None))
        .order_by(
            priority.scalar_subquery().desc(),
            running.scalar_subquery(),
            nulls_first(served.scalar_subquery().asc()),
            heads.c.id,
        )
        .limit(1)
    )
