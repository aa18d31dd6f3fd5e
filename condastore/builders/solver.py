"""Solver processes that stay warm: they keep the channel data that they have read.

Each does one solve at a time. One that has grown too large, has served often, or has had nothing
to do for long is ended; one whose solve was cancelled is killed with it.
"""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condastore.builders.process import Child, Listener, SilentEnd, start_engine
from condastore.cancellation import uninterrupted
from condastore.configuration import CondaStoreWorker
from condastore.errors import BuildError

# Failures of the job, after which the process is as good as before.
_ORDERLY = {"spec", "unsatisfiable", "network", "auth"}


@dataclass(eq=False)
class _Solver:
    child: Child
    uses: int = 0
    idle_since: float = field(default_factory=time.monotonic)


class SolverPool:
    """Hands out solver processes, warm ones first."""

    def __init__(self, scratch: Path, config: CondaStoreWorker) -> None:
        self._scratch = scratch
        self._config = config
        self._idle: list[_Solver] = []
        self._reaper: asyncio.Task[None] | None = None

    async def solve(self, job: dict[str, Any], listener: Listener) -> dict[str, Any]:
        """Returns the result of a solve job.

        Raises `BuildError` with the solver's explanation.
        """
        solver = await self._ready()
        is_warm = solver.uses > 0
        try:
            return await self._solve(solver, job, listener)
        except SilentEnd:
            if not is_warm:
                raise
        # It died as it was taken, which says nothing of the job.
        return await self._solve(await self._new(), job, listener)

    async def _solve(
        self, solver: _Solver, job: dict[str, Any], listener: Listener
    ) -> dict[str, Any]:
        solver.uses += 1
        is_sound = False
        rss_bytes = 0
        try:
            result = await solver.child.do(job, listener)
            is_sound = True
            rss_bytes = result.get("rss_bytes", 0)
            return result
        except BuildError as error:
            is_sound = error.kind in _ORDERLY
            raise
        finally:
            if is_sound and self._is_worth_keeping(solver, rss_bytes):
                self._keep(solver)
            else:
                await uninterrupted(solver.child.kill())

    async def close(self) -> None:
        """Ends every idle solver."""
        if self._reaper is not None:
            self._reaper.cancel()
            await asyncio.gather(self._reaper, return_exceptions=True)
        while self._idle:
            await self._idle.pop().child.kill()

    async def _ready(self) -> _Solver:
        """Returns the solver that was used last, or a new one; some may have died meanwhile."""
        while self._idle:
            solver = self._idle.pop()
            if solver.child.is_alive:
                return solver
            await solver.child.kill()
        return await self._new()

    async def _new(self) -> _Solver:
        return _Solver(await start_engine(self._scratch))

    def _is_worth_keeping(self, solver: _Solver, rss_bytes: int) -> bool:
        return (
            len(self._idle) < self._config.warm_solvers
            and solver.uses < self._config.max_solver_uses
            and rss_bytes <= self._config.max_solver_memory
        )

    def _keep(self, solver: _Solver) -> None:
        solver.idle_since = time.monotonic()
        self._idle.append(solver)
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap(), name="solver reaper")

    async def _reap(self) -> None:
        """Ends solvers that nobody has used for a while; ends itself with the last."""
        while self._idle:
            oldest = min(self._idle, key=lambda solver: solver.idle_since)
            wait_s = oldest.idle_since + self._config.solver_idle_time - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            self._idle.remove(oldest)
            await uninterrupted(oldest.child.kill())
