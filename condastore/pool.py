"""The bounded task pool: claims tasks from the durable queue and runs them in this event loop.

Each kind of task belongs to a lane, and each lane runs a bounded number of tasks at once, so that
a deletion never waits for four builds of an hour.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from condastore import correlation
from condastore.cancellation import uninterrupted
from condastore.errors import CondaStoreError
from condastore.tables import TaskState
from condastore.tasks import LEASE_S, Claim, Recovery, Requeued, TaskQueue

logger = logging.getLogger(__name__)

# What wakes the pool is heard at once; should it not be, this bounds the wait.
POLL_S = 30.0
# For what tasks that end have queued, lanes look this often; each look is a transaction.
AFTERWARDS_S = 0.02
RETRY_DELAYS_S = (1.0, 5.0, 30.0)
# While the database is away, how a task ended is told to it again after these.
RECORD_DELAYS_S = (1.0, 5.0, 15.0, 30.0)
# And so long when the daemon ends: what is not recorded then counts as a death.
LAST_RECORD_S = 10.0

DEADLY = (
    "the daemon died twice while it worked on this, so it is not tried again: see the daemon's log "
    "and the system's (was memory short?), mend that, and then ask for it once more"
)


class Stop(Enum):
    """Why a running task is stopped."""

    CANCELED = "canceled"
    DEADLINE = "deadline"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease lost"


class Retry(Exception):
    """The task failed for a reason that may go away by itself."""


class GiveUp(Exception):
    """The task failed for a reason that stays."""


@dataclass(eq=False)
class Run:
    """A claimed task at work."""

    claim: Claim
    stop: Stop | None = None
    """Set before the run's coroutine is cancelled."""
    started: bool = False


@dataclass(frozen=True)
class Work:
    """How tasks of one kind are done.

    `run` returns the task's result. When it is cancelled, `Run.stop` says why; it cleans up and
    lets the cancellation pass. `abandon` is called for a task that won't be run again.
    """

    run: Callable[[Run], Awaitable[dict[str, Any] | None]]
    abandon: Callable[[Claim, Stop | str], Awaitable[None]]
    lane: str
    deadline_s: float | None = None
    drains: bool = True
    """Whether it gets time to finish when the pool drains: what it did would be done in vain."""


class Pool:
    """Runs tasks until it is drained."""

    def __init__(
        self,
        queue: TaskQueue,
        works: Mapping[str, Work],
        lanes: Mapping[str, int],
        *,
        poll_s: float = POLL_S,
    ) -> None:
        self._queue = queue
        self._poll_s = poll_s
        self._works = works
        self._lanes = {lane: _Lane(size) for lane, size in lanes.items()}
        for kind, work in works.items():
            self._lanes[work.lane].kinds.append(kind)
        self._running: dict[int, tuple[Run, asyncio.Task[None]]] = {}
        self._draining = False
        self._ends_at = 0.0
        self._wakes_soon = False
        self._some_running = asyncio.Event()
        self._canceled_elsewhere = asyncio.Event()

    @property
    def running(self) -> int:
        """The number of tasks at work."""
        return len(self._running)

    @property
    def use(self) -> dict[str, tuple[int, int]]:
        """How many tasks of each lane run, and may run at once."""
        return {name: (lane.busy, lane.size) for name, lane in self._lanes.items()}

    @property
    def kinds(self) -> list[str]:
        """The kinds of tasks that this pool works on."""
        return sorted(self._works)

    def resize(self, lane: str, size: int) -> None:
        """Lets so many tasks of a lane run at once from now on; those that run, run on."""
        self._lanes[lane].resize(size)

    def limit(self, deadline_s: float, max_attempts: int) -> None:
        """Gives tasks that begin from now on, if they have a deadline, this one."""
        self._works = {
            kind: replace(work, deadline_s=deadline_s) if work.deadline_s else work
            for kind, work in self._works.items()
        }
        self._queue.max_attempts = max_attempts

    async def recover(self, requeued: Requeued | None = None) -> Recovery:
        """Takes over what daemons that are gone left; see `TaskQueue.recover`."""
        recovery = await self._queue.recover(
            requeued, kinds=self.kinds, running=list(self._running)
        )
        for claim in recovery.canceled:
            await self._abandon(claim, Stop.CANCELED)
        for claim in recovery.deadly:
            await self._abandon(claim, DEADLY)
        for claim in recovery.exhausted:
            await self._abandon(claim, "how it ended could not be recorded")
        return recovery

    async def run(self) -> None:
        """Claims and runs tasks; returns after `drain`."""
        async with asyncio.TaskGroup() as group:
            keeper = group.create_task(self._keep_leases(), name="pool leases")
            async with asyncio.TaskGroup() as lanes:
                for name, lane in self._lanes.items():
                    lanes.create_task(self._serve(lane), name=f"pool lane {name}")
            keeper.cancel()

    def wake(self) -> None:
        """Says that there may be something to claim."""
        self._wakes_soon = False
        for lane in self._lanes.values():
            lane.woken.set()

    def hold(self, lanes: Collection[str]) -> None:
        """Claims nothing more in these lanes, and again in all others; what runs goes on."""
        for name, lane in self._lanes.items():
            lane.held = name in lanes
        self.wake()

    def look_for_canceled(self) -> None:
        """Says that another daemon may have cancelled a task that runs here."""
        self._canceled_elsewhere.set()

    def stop(self, task_id: int, why: Stop) -> None:
        """Stops a task if it is running here."""
        run, task = self._running.get(task_id, (None, None))
        if run is None or task is None or run.stop is not None:
            return
        run.stop = why
        # A coroutine that is cancelled before its first step has no chance to record it.
        if run.started:
            task.cancel()

    async def drain(self, timeout_s: float) -> None:
        """Claims nothing more and ends; what outlasts the timeout goes back to the queue."""
        self._draining = True
        self._ends_at = time.monotonic() + timeout_s + LAST_RECORD_S
        self.wake()
        for task_id, (run, _) in list(self._running.items()):
            if not self._works[run.claim.kind].drains:
                self.stop(task_id, Stop.SHUTDOWN)
        tasks = [task for _, task in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)
        for task_id in list(self._running):
            self.stop(task_id, Stop.SHUTDOWN)

    async def _serve(self, lane: "_Lane") -> None:
        async with asyncio.TaskGroup() as group:
            while not self._draining:
                await lane.room()
                claim = await self._next(lane)
                if claim is not None:
                    self._start(group, lane, claim)

    async def _next(self, lane: "_Lane") -> Claim | None:
        """Waits for a task; returns None when the pool drains, or the lane was made smaller."""
        is_woken = True
        while not self._draining and not lane.is_full:
            lane.woken.clear()
            claim, delay = (None, None) if lane.held else await self._look(lane, is_woken)
            if claim is not None:
                is_over = await self._end_former(claim)
                if is_over and not (self._draining or lane.held):
                    return claim
                await self._record(self._queue.release, claim.id)
                continue
            timeout_s = self._poll_s if delay is None else min(max(delay, 0.01), self._poll_s)
            try:
                async with asyncio.timeout(timeout_s):
                    is_woken = await lane.woken.wait()
            except TimeoutError:
                is_woken = False
        return None

    async def _end_former(self, claim: Claim) -> bool:
        """Ends this daemon's former run of a task; returns whether there was none.

        Another daemon took it over, as after a pause of this one, and put it back into the queue
        before this one has found that out. What a former run records would count for the new one.
        """
        _, former = self._running.get(claim.id, (None, None))
        if former is None:
            return True
        self.stop(claim.id, Stop.LEASE_LOST)
        await asyncio.wait([former])
        return False

    async def _look(self, lane: "_Lane", is_woken: bool) -> tuple[Claim | None, float | None]:
        """Returns a task, or else in how many seconds one will be ready."""
        try:
            if not is_woken:
                # To claim is to write, which would end what is kept until something is written.
                delay = await self._queue.next_start(lane.kinds)
                if delay is None or delay > 0:
                    return None, delay
            claim = await self._queue.claim(lane.kinds)
            return claim, await self._queue.next_start(lane.kinds) if claim is None else None
        except Exception:
            logger.exception("the task queue can't be read")
            return None, RECORD_DELAYS_S[0]

    def _start(self, group: asyncio.TaskGroup, lane: "_Lane", claim: Claim) -> None:
        run = Run(claim, Stop.CANCELED if claim.cancel_requested else None)
        task = group.create_task(self._work(run), name=f"{claim.kind} task {claim.id}")
        self._running[claim.id] = (run, task)
        self._some_running.set()
        lane.begin()

        def ended(_: asyncio.Task[None]) -> None:
            del self._running[claim.id]
            lane.end()
            self._wake_soon()

        task.add_done_callback(ended)

    def _wake_soon(self) -> None:
        """Wakes the lanes for what a task that has ended may have queued."""
        if not self._wakes_soon:
            self._wakes_soon = True
            asyncio.get_running_loop().call_later(AFTERWARDS_S, self.wake)

    async def _work(self, run: Run) -> None:
        """Runs one task and records how it ended."""
        claim = run.claim
        correlation.build_id.set(claim.build_id)
        work = self._works[claim.kind]
        loop = asyncio.get_running_loop()
        deadline = (
            loop.call_later(work.deadline_s, self.stop, claim.id, Stop.DEADLINE)
            if work.deadline_s
            else None
        )
        try:
            run.started = True
            if run.stop is None:
                result = await work.run(run)
                await self._record(self._queue.finish, claim.id, TaskState.DONE, result=result)
            else:
                await self._stopped(run)
        except asyncio.CancelledError:
            if run.stop is None:
                raise
            await self._stopped(run)
        except GiveUp as error:
            await self._abandon(claim, str(error))
        except (Retry, CondaStoreError, OSError) as error:
            if run.stop is Stop.SHUTDOWN:
                # What it wanted to say of its end could not be said; the next daemon does.
                await self._stopped(run)
            else:
                await self._retry(claim, str(error))
        except Exception as error:
            logger.exception("%s task %d failed", claim.kind, claim.id)
            await self._retry(claim, f"internal error: {type(error).__name__}")
        finally:
            if deadline is not None:
                deadline.cancel()

    async def _stopped(self, run: Run) -> None:
        match run.stop:
            case Stop.CANCELED:
                await self._abandon(run.claim, Stop.CANCELED)
            case Stop.DEADLINE:
                await self._abandon(run.claim, "it took too long")
            case Stop.SHUTDOWN:
                await self._record(self._queue.release, run.claim.id)

    async def _retry(self, claim: Claim, error: str) -> None:
        if claim.tries >= self._queue.max_attempts:
            await self._abandon(claim, error)
            return
        delay = RETRY_DELAYS_S[min(claim.tries, len(RETRY_DELAYS_S)) - 1]
        logger.warning("%s task %d: %s; again in %g s", claim.kind, claim.id, error, delay)
        await self._record(self._queue.retry, claim.id, delay, error)

    async def _abandon(self, claim: Claim, why: Stop | str) -> None:
        """Ends a task for good, after what it was about is settled, so that a crash is no gap."""
        if not await self._record(self._works[claim.kind].abandon, claim, why):
            return
        if why is Stop.CANCELED:
            await self._record(self._queue.finish, claim.id, TaskState.CANCELED)
        else:
            await self._record(self._queue.finish, claim.id, TaskState.FAILED, error=str(why))

    async def _record(
        self, change: Callable[..., Awaitable[None]], *values: Any, **named: Any
    ) -> bool:
        """Writes to the database, also if that is away for a moment; returns whether it could.

        What could not be written is found, and done again, by the next daemon.
        """
        delays = iter(RECORD_DELAYS_S)
        while True:
            try:
                await uninterrupted(change(*values, **named))
                return True
            except Exception:
                logger.exception("the end of a task can't be recorded")
            delay = next(delays, None)
            if self._draining:
                is_over = time.monotonic() >= self._ends_at
                delay = None if is_over else RECORD_DELAYS_S[0]
            if delay is None:
                return False
            await asyncio.sleep(delay)

    async def _keep_leases(self) -> None:
        while True:
            await self._some_running.wait()
            if not self._running:
                self._some_running.clear()
                continue
            runs = [run for run, _ in self._running.values()]
            self._canceled_elsewhere.clear()
            try:
                held, cancel = await self._queue.renew([run.claim.id for run in runs])
            except Exception:
                # A database that is away for a moment must not end the builds that still run.
                logger.exception("leases could not be renewed")
            else:
                self._stop_lost(runs, held, cancel)
            with suppress(TimeoutError):
                async with asyncio.timeout(LEASE_S / 3):
                    await self._canceled_elsewhere.wait()

    def _stop_lost(self, runs: Collection[Run], held: set[int], cancel: set[int]) -> None:
        """Stops the runs whose task is not theirs any more, or was cancelled."""
        for run in runs:
            task_id = run.claim.id
            now, _ = self._running.get(task_id, (None, None))
            # While the database was asked, this one put its task back, and another claimed it.
            if now is not run:
                continue
            if task_id not in held:
                self.stop(task_id, Stop.LEASE_LOST)
            elif task_id in cancel:
                self.stop(task_id, Stop.CANCELED)


class _Lane:
    def __init__(self, size: int) -> None:
        self.kinds: list[str] = []
        self.size = size
        self.busy = 0
        self.held = False
        self.woken = asyncio.Event()
        self._freed = asyncio.Event()

    @property
    def is_full(self) -> bool:
        """Whether no more may run at once."""
        return self.busy >= self.size

    def begin(self) -> None:
        """Counts a task."""
        self.busy += 1

    def end(self) -> None:
        """Counts one less."""
        self.busy -= 1
        self._freed.set()

    def resize(self, size: int) -> None:
        """Lets so many run at once."""
        self.size = size
        self._freed.set()
        self.woken.set()

    async def room(self) -> None:
        """Waits until one more may run."""
        while self.is_full:
            self._freed.clear()
            await self._freed.wait()
