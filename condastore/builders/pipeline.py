"""A build, from its specification to a published environment.

`Builder.run` tells the story. Each phase can be run again after a crash and gives the same
result: what is half done has no record, and is thrown away.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from condastore.artifact_rows import queue_artifacts
from condastore.build_rows import (
    add_artifact,
    arn,
    find_build,
    key_of,
    log_key,
    move_build,
    prefix_of,
    recorded_prefix,
)
from condastore.builders.artifacts import MAKERS, Installed
from condastore.builders.jobs import Solution, build_job, locked_solution, solve_job
from condastore.builders.links import LINK_WAIT_S, Links
from condastore.builders.plan import Plan, plan_of
from condastore.builders.process import Child, engine
from condastore.builders.reporter import Reporter
from condastore.builders.solver import SolverPool
from condastore.builds import FINAL, ArtifactType, BuildStatus, cancel_marker, storage_key
from condastore.cancellation import uninterrupted
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.disk import is_full
from condastore.errors import BuildError, CondaStoreError, DatabaseUnavailable
from condastore.faults import fault
from condastore.files import PUBLIC, make_directory
from condastore.metrics import Metrics
from condastore.packages import record_packages
from condastore.pool import Retry, Run, Stop
from condastore.prefixes import Store
from condastore.settings import Settings
from condastore.specification import LockfileSpecification
from condastore.storage import Storage
from condastore.streams import LogHub
from condastore.tables import Build, utcnow
from condastore.tally import Tally
from condastore.tasks import Claim, enqueue_once, enqueue_switch, holds

logger = logging.getLogger(__name__)

# The solver keeps its own deadline; this is for one that doesn't.
SOLVE_GRACE_S = 5


class Builder:
    """Runs the tasks of kind `build`."""

    def __init__(
        self,
        config: CondaStore,
        defaults: Settings,
        database: Database,
        store: Store,
        storage: Storage,
        logs: LogHub,
        solvers: SolverPool,
        links: Links,
        metrics: Metrics,
        tally: Tally,
        on_full: Callable[[], None],
    ) -> None:
        """`on_full` is called when a build has met the end of the disk."""
        self._config = config
        self._defaults = defaults
        self._database = database
        self._store = store
        self._storage = storage
        self._logs = logs
        self._solvers = solvers
        self._links = links
        self._metrics = metrics
        self._tally = tally
        self._on_full = on_full

    async def run(self, run: Run) -> dict[str, Any]:
        """Builds, unless the build has ended already. A failure is recorded, not raised.

        Returns the phases and how many seconds each took.
        """
        claim = run.claim
        phases: list[dict[str, Any]] = []
        try:
            await self._build(claim, phases)
        except asyncio.CancelledError:
            await self._stopped(claim, run.stop)
            raise
        except DatabaseUnavailable as error:
            raise Retry(str(error)) from error
        except Retry:
            raise
        except (CondaStoreError, OSError) as error:
            if is_full(error) or (isinstance(error, BuildError) and error.kind == "disk"):
                self._on_full()
            await self._failed(claim, explain(error))
        except Exception:
            await self._failed(claim, "internal error; the daemon's log has more")
            raise
        finally:
            await self._hand_over(claim)
        return {"phases": phases}

    async def abandon(self, claim: Claim, why: Stop | str) -> None:
        """Ends a build that won't be run again: cancelled before it ran, or given up."""
        try:
            if why is Stop.CANCELED:
                await self._stopped(claim, why)
            else:
                await self._failed(claim, str(why))
        finally:
            await self._hand_over(claim)

    async def _hand_over(self, claim: Claim) -> None:
        """Lets the readers of a log that has not ended here find it where its build goes on."""
        if not self._database.is_sqlite:
            await self._logs.release(_build_id(claim))

    async def _build(self, claim: Claim, phases: list[dict[str, Any]]) -> None:
        """Tells its story; `phases` gets those that are over."""
        build_id = _build_id(claim)
        begun = await uninterrupted(self._begin(claim))
        if isinstance(begun, Build):
            await self._complete(begun)
        if not isinstance(begun, Plan):
            return
        plan = begun
        reporter = Reporter(
            self._logs.open(build_id, plan.log_key), self._metrics.phase_ended, phases
        )
        reporter.line(f"starting build of conda environment {utcnow()} UTC")
        try:
            await self._make(claim, plan, reporter)
        finally:
            reporter.end_phase(is_whole=False)

    async def _make(self, claim: Claim, plan: Plan, reporter: Reporter) -> None:
        # While the solver works, the child that will install gets ready.
        ready = ("--role", "build", "--memory", str(self._config.max_build_memory))
        async with engine(self._store.scratch, *ready) as child:
            solution = await self._solve(plan, reporter)
            installed = await self._install(child, plan, solution, reporter)
        build = await uninterrupted(self._publish(claim, plan, solution, installed, reporter))
        await self._complete(build)
        reporter.end_phase()

    # The phases

    async def _begin(self, claim: Claim) -> Plan | Build | None:
        """Moves the build to BUILDING and clears what an earlier attempt left.

        Returns the build if an earlier attempt has recorded it, and None if it has ended.
        """
        build_id = _build_id(claim)
        async with self._database.write() as session:
            if not await holds(session, claim):
                raise Retry("another daemon has taken over this build")
            build = await find_build(session, build_id, with_spec=True)
            ended = build.status if build.status in FINAL else None
            recorded = recorded_prefix(build) is not None
            if ended is None and not recorded:
                if build.status == BuildStatus.BUILDING:
                    move_build(build, BuildStatus.QUEUED)
                plan = await plan_of(session, self._store, self._defaults, build)
                move_build(build, BuildStatus.BUILDING)
                add_artifact(build, ArtifactType.LOGS, plan.log_key)
                if build.build_key_version == 3:
                    build.hash = plan.key
                if await asyncio.to_thread(self._store.discard, plan.prefix):
                    await enqueue_once(session, "tidy")
        if ended is not None:
            # It was committed, but the answer was lost, and whoever reads the log still waits.
            await self._logs.end(build_id, log_key(build), ended)
            return None
        if recorded:
            return build
        logger.info("build %d of %s begins", build_id, arn(build))
        fault("build.begun")
        return plan

    async def _solve(self, plan: Plan, reporter: Reporter) -> Solution:
        """Turns the specification into lists of packages; a lockfile is one already."""
        if isinstance(plan.specification, LockfileSpecification):
            return locked_solution(plan.specification)
        job = solve_job(self._config, self._store, plan.settings, plan.specification)
        limit_s = plan.settings.conda_max_solve_time
        try:
            async with asyncio.timeout(limit_s + SOLVE_GRACE_S):
                result = await self._solvers.solve(job, reporter.event)
        except TimeoutError:
            raise BuildError(
                "timeout", f"the solve took longer than conda_max_solve_time ({limit_s} s)"
            ) from None
        fault("build.solved")
        return Solution(job["channels"], result["packages"], [])

    async def _install(
        self, child: Child, plan: Plan, solution: Solution, reporter: Reporter
    ) -> Installed:
        """Makes the prefix, in a child process of its own."""
        job = build_job(self._config, self._store, plan, solution)
        await asyncio.to_thread(make_directory, plan.prefix.parent, PUBLIC)
        result: dict[str, Any] = await child.do(job, reporter.event)
        fault("build.installed")
        return Installed(result["packages"], result["pip"], result["size"]["bytes"])

    async def _publish(
        self,
        claim: Claim,
        plan: Plan,
        solution: Solution,
        installed: Installed,
        reporter: Reporter,
    ) -> Build:
        """Stores the artifacts and records the build, as what its environment is from now on."""
        reporter.phase("export")
        artifacts = await self._store_artifacts(plan, solution, installed, reporter)
        fault("build.stored")

        async def record(session: AsyncSession) -> tuple[Build, int]:
            if not await holds(session, claim):
                raise Retry("another daemon has taken over this build")
            build = await find_build(session, plan.build_id)
            await record_packages(session, build.id, installed.packages)
            build.size = installed.size_bytes
            add_artifact(build, ArtifactType.DIRECTORY, str(plan.prefix))
            for artifact in artifacts:
                add_artifact(build, artifact, storage_key(artifact, plan.key))
            build.environment.current_build_id = build.id
            await queue_artifacts(session, build, plan.settings.build_artifacts)
            return build, await self._tally.count(session)

        # All the work is done; a database that restarts at this moment must not make it void.
        build, number = await self._database.insist(record)
        await self._tally.keep(number)
        fault("build.recorded")
        return build

    async def _complete(self, build: Build, wait_s: float | None = None) -> None:
        """Makes users see a build that is recorded: its link first, so that COMPLETED means all.

        A link that can't be switched, or not within `wait_s`, is switched by a task of its own.
        """
        reporter = Reporter(self._logs.open(build.id, log_key(build)))
        try:
            await self._links.follow(build.environment_id, wait_s)
        except OSError as error:
            logger.error("the link of %s can't be switched: %s", arn(build), error)
            reporter.line(
                f"warning: the link could not be switched, and is tried again: {explain(error)}"
            )
            await uninterrupted(self._show(build, is_linked=False))
        else:
            reporter.line(f"build {build.id} is {arn(build)} now")
            await uninterrupted(self._show(build, is_linked=True))

    async def _show(self, build: Build, *, is_linked: bool) -> None:
        """Ends a build that is complete."""
        build_id = build.id
        fault("build.linked")

        async def move(session: AsyncSession) -> None:
            # The first time may have been committed, and its answer lost.
            found = await find_build(session, build_id)
            if found.status != BuildStatus.COMPLETED:
                move_build(found, BuildStatus.COMPLETED)
                if not is_linked:
                    await enqueue_switch(session, found.environment_id)

        await self._database.insist(move)
        fault("build.completed")
        logger.info("build %d of %s is COMPLETED", build_id, arn(build))
        self._metrics.build_ended(BuildStatus.COMPLETED)
        await self._logs.end(build_id, log_key(build), BuildStatus.COMPLETED)

    async def _store_artifacts(
        self, plan: Plan, solution: Solution, installed: Installed, reporter: Reporter
    ) -> list[ArtifactType]:
        """Stores what the settings ask for; one that can't be stored doesn't fail the build."""
        stored = []
        for artifact in set(plan.settings.build_artifacts) & set(MAKERS):
            try:
                text = await asyncio.to_thread(MAKERS[artifact], plan, solution, installed)
                await self._storage.put_bytes(storage_key(artifact, plan.key), text.encode())
                stored.append(artifact)
            except OSError as error:
                logger.exception("build %d: %s could not be stored", plan.build_id, artifact)
                reporter.line(f"warning: the {artifact} could not be stored: {explain(error)}")
        return sorted(stored)

    # The other ends

    async def _stopped(self, claim: Claim, why: Stop | None) -> None:
        match why:
            case Stop.CANCELED:
                text = cancel_marker(_build_id(claim))
                await self._end(claim, BuildStatus.CANCELED, text)
            case Stop.DEADLINE:
                limit_s = self._config.max_build_time
                await self._failed(claim, f"it took longer than {limit_s} s")
            case Stop.LEASE_LOST:
                # Another daemon has taken the task; whatever is there is its own, but for what
                # this one's child held in the package store.
                async with self._database.write() as session:
                    await enqueue_once(session, "tidy")
            case _:
                text = "the daemon stops; this build goes back to the queue"
                await self._end(claim, BuildStatus.QUEUED, text)

    async def _failed(self, claim: Claim, reason: str) -> None:
        await self._end(claim, BuildStatus.FAILED, f"build failed: {reason}", reason)

    async def _end(
        self, claim: Claim, status: BuildStatus, text: str, info: str | None = None
    ) -> None:
        """Ends an attempt that made nothing, unless the build has passed its point of no return."""
        build_id = _build_id(claim)
        async with self._database.write() as session:
            if not await holds(session, claim):
                return
            build = await find_build(session, build_id)
        key = log_key(build)
        if build.status in FINAL:
            await self._logs.end(build_id, key, build.status)
            return
        if recorded_prefix(build) is not None:
            await self._complete(build, LINK_WAIT_S)
            return
        Reporter(self._logs.open(build_id, key)).line(text)
        await asyncio.to_thread(self._discard, build)
        if status in FINAL:
            await self._forget_artifacts(build)
        async with self._database.write() as session:
            if not await holds(session, claim):
                return
            build = await find_build(session, build_id)
            if build.status != status:
                move_build(build, status, info)
            add_artifact(build, ArtifactType.LOGS, key)
            if build.started_on is not None:
                await enqueue_once(session, "tidy")
        logger.info("build %d of %s is %s: %s", build_id, arn(build), status, text)
        if status in FINAL:
            self._metrics.build_ended(status)
            await self._logs.end(build_id, key, status)

    def _discard(self, build: Build) -> None:
        # Where the path is too long for a prefix, there is none.
        with suppress(BuildError):
            self._store.discard(prefix_of(self._store, build))

    async def _forget_artifacts(self, build: Build) -> None:
        """Removes what an attempt has stored that came no further: no row names it."""
        for artifact in MAKERS:
            key = storage_key(artifact, key_of(build))
            try:
                await self._storage.delete(key)
            except OSError:
                logger.exception("build %d: %s is left in the storage", build.id, key)


def explain(error: Exception) -> str:
    """Returns what a user should read about a failure."""
    if isinstance(error, OSError) and is_full(error):
        return f"there is no space left on the disk ({error.strerror}); delete builds and try again"
    return str(error)


def _build_id(claim: Claim) -> int:
    assert claim.build_id is not None
    return claim.build_id
