"""Solvers that stay warm: used again, replaced in time, and never left behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from condastore.builders import solver
from condastore.builders.process import Child, Event, start_engine
from condastore.builders.solver import SolverPool
from condastore.configuration import CondaStoreWorker, server_platform
from condastore.errors import BuildError
from tests.patience import PATIENCE_S


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    directory = tmp_path / "scratch"
    directory.mkdir()
    return directory


@asynccontextmanager
async def pool_of(scratch: Path, **traits: Any) -> AsyncIterator[SolverPool]:
    pool = SolverPool(scratch, CondaStoreWorker(**traits))
    try:
        yield pool
    finally:
        await pool.close()
    assert pids(pool) == []
    assert os.listdir(scratch) == []


def job(channel: Path, scratch: Path, *specs: str) -> dict[str, Any]:
    return {
        "v": 1,
        "job": "solve",
        "engine": "rattler",
        "command": None,
        "channels": [channel.as_uri()],
        "specs": list(specs),
        "platforms": [server_platform()],
        "virtual_packages": {},
        "cuda": None,
        "timeout_s": 60,
        "repodata_cache": str(scratch.parent / "repodata"),
        "repodata_ttl_s": 120,
        "credentials": [],
        "offline": False,
        "flags": [],
    }


async def ignore(_: Event) -> None: ...


def pids(pool: SolverPool) -> list[int]:
    """The solvers that wait."""
    return [solver.child.pid for solver in pool._idle]


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def test_a_solver_is_used_again(small_channel: Path, scratch: Path) -> None:
    async with pool_of(scratch) as pool:
        result = await pool.solve(job(small_channel, scratch, "flask"), ignore)
        names = {record["name"] for record in result["packages"][server_platform()]}
        assert {"flask", "jinja2", "python"} <= names
        [first] = pids(pool)
        await pool.solve(job(small_channel, scratch, "six"), ignore)
        assert pids(pool) == [first]


async def test_a_solve_that_can_not_be_done_does_not_cost_the_solver(
    small_channel: Path, scratch: Path
) -> None:
    async with pool_of(scratch) as pool:
        for _ in range(2):
            with pytest.raises(BuildError, match="nonesuch") as caught:
                await pool.solve(job(small_channel, scratch, "nonesuch"), ignore)
            assert caught.value.kind == "unsatisfiable"
        assert len(pids(pool)) == 1


@pytest.mark.parametrize(
    ("spec", "traits"),
    [
        ("six", {"warm_solvers": 0}),
        ("six", {"max_solver_uses": 1}),
        ("six", {"max_solver_memory": 1}),
        ("nonesuch", {"warm_solvers": 0}),
        ("nonesuch", {"max_solver_uses": 1}),
    ],
)
async def test_a_solver_that_has_served_its_time_is_replaced(
    small_channel: Path, scratch: Path, spec: str, traits: dict[str, int]
) -> None:
    async with pool_of(scratch, **traits) as pool:
        try:
            await pool.solve(job(small_channel, scratch, spec), ignore)
        except BuildError:
            assert spec == "nonesuch"
        assert pids(pool) == []


async def test_no_more_solvers_wait_than_may(small_channel: Path, scratch: Path) -> None:
    async with pool_of(scratch, warm_solvers=1) as pool:
        solves = [pool.solve(job(small_channel, scratch, "nonesuch"), ignore) for _ in range(2)]
        solves += [pool.solve(job(small_channel, scratch, "six"), ignore)]
        found = await asyncio.gather(*solves, return_exceptions=True)
        assert [isinstance(result, BuildError) for result in found] == [True, True, False]
        assert len(pids(pool)) == 1


async def test_a_cancelled_solve_takes_its_solver_with_it(
    small_channel: Path, scratch: Path
) -> None:
    async with pool_of(scratch) as pool:
        await pool.solve(job(small_channel, scratch, "six"), ignore)
        [pid] = pids(pool)
        heard = asyncio.Event()

        async def hear(_: Event) -> None:
            heard.set()
            await asyncio.sleep(2 * PATIENCE_S)

        solving = asyncio.create_task(pool.solve(job(small_channel, scratch, "flask"), hear))
        await asyncio.wait_for(heard.wait(), PATIENCE_S)
        assert pids(pool) == []
        solving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(solving, PATIENCE_S / 2)
        assert is_gone(pid)
        await pool.solve(job(small_channel, scratch, "six"), ignore)


async def test_a_solver_that_died_while_it_waited_is_not_used(
    small_channel: Path, scratch: Path
) -> None:
    async with pool_of(scratch) as pool:
        await pool.solve(job(small_channel, scratch, "six"), ignore)
        [pid] = pids(pool)
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while pool._idle[0].child.is_alive:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await pool.solve(job(small_channel, scratch, "six"), ignore)
        assert pids(pool) != [pid]


async def test_a_solver_that_dies_as_it_is_taken_is_replaced_once(
    small_channel: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing has told us of its death yet."""
    async with pool_of(scratch, warm_solvers=2) as pool:
        wanted = job(small_channel, scratch, "six")
        await asyncio.gather(*(pool.solve(wanted, ignore) for _ in range(2)))
        for pid in (dead := pids(pool)):
            os.kill(pid, signal.SIGKILL)
            # Unless it was waited for already.
            with suppress(ChildProcessError):
                await asyncio.to_thread(os.waitid, os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        monkeypatch.setattr(Child, "is_alive", True)
        await pool.solve(wanted, ignore)
        monkeypatch.undo()
        assert not set(pids(pool)) & set(dead[-1:])


async def test_a_new_solver_that_dies_fails_its_solve(
    small_channel: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    async def start(directory: Path) -> Child:
        child = await start_engine(directory)
        started.append(child.pid)
        os.kill(child.pid, signal.SIGKILL)
        return child

    async with pool_of(scratch) as pool:
        monkeypatch.setattr(solver, "start_engine", start)
        with pytest.raises(BuildError, match="SIGKILL"):
            await pool.solve(job(small_channel, scratch, "six"), ignore)
        assert len(started) == 1


async def test_a_solver_that_nobody_uses_ends(small_channel: Path, scratch: Path) -> None:
    async with pool_of(scratch, solver_idle_time=0.2, warm_solvers=2) as pool:
        solves = [pool.solve(job(small_channel, scratch, "six"), ignore) for _ in range(2)]
        await asyncio.gather(*solves)
        waiting = pids(pool)
        # On a busy machine the first has gone before the second comes.
        assert 1 <= len(waiting) <= 2
        async with asyncio.timeout(PATIENCE_S):
            while not all(map(is_gone, waiting)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert pids(pool) == []
        # And then again.
        await pool.solve(job(small_channel, scratch, "six"), ignore)
        [pid] = pids(pool)
        async with asyncio.timeout(PATIENCE_S):
            while not is_gone(pid):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_solvers_are_taken_and_put_back_while_others_end(
    small_channel: Path, scratch: Path
) -> None:
    async with pool_of(scratch, solver_idle_time=0.01, warm_solvers=3) as pool:
        for _ in range(3):
            await asyncio.gather(
                *(pool.solve(job(small_channel, scratch, "six"), ignore) for _ in range(2))
            )
            await asyncio.sleep(0.01)
