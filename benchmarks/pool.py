"""How many short tasks a second go through the pool, and how soon a long queue is served again."""

import asyncio
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from benchmarks.api import fill
from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, running
from condastore.changes import Change, SqliteChanges
from condastore.database import Database
from condastore.pool import Pool, Run, Work
from condastore.statements import SQLITE
from condastore.tables import Task, TaskState, utcnow
from condastore.tasks import _ENDING, Claim, TaskQueue, _claiming
from condastore.views import Rows, Values

TASKS = 2_000
NAMESPACES = 20
LANE = 4
IDLE = ("artifacts", "housekeeping", "removals")
RATE = 500
ENVIRONMENTS = 1_000
QUEUED = 10_000
LEFT = 8  # of them ran when the daemon died
FILES_LEFT = 500  # of each
READY_S = 3.0


def measure(scene: Scene) -> Table:
    """Runs tasks that do nothing; starts on what a crash left."""
    table = scene.table(
        "The pool and the start", "a transaction for each claim and each end, in a bare loop"
    )
    walls, cpus, bare = [], [], []
    for _ in range(scene.rounds):
        wall, cpu = asyncio.run(_seconds(scene.fresh("sqlite")))
        walls.append(wall)
        cpus.append(cpu)
        bare.append(asyncio.run(_bare_seconds(scene.fresh("sqlite"))))
    table.value(f"{TASKS} short tasks through the pool", walls, "s", most=TASKS / RATE)
    table.value("of which CPU time", cpus, "s")
    table.ratio("the same beside a bare loop", walls, bare)
    starts = [_start(scene) for _ in range(scene.rounds)]
    what = f"start after a crash, {QUEUED} builds queued, {ENVIRONMENTS} environments"
    table.value(what, starts, "s", most=READY_S)
    return table


async def _seconds(directory: Path) -> tuple[float, float]:
    """Returns seconds, and seconds of CPU time, from the first claim to the last end."""
    database = await _queued(directory)
    done, left = asyncio.Event(), TASKS

    async def work(_: Run) -> dict[str, Any] | None:
        nonlocal left
        left -= 1
        if not left:
            done.set()
        return None

    async def abandon(claim: Claim, why: Any) -> None:
        raise AssertionError(claim, why)

    queue = TaskQueue(database, "benchmark")
    # As in the daemon, other lanes look meanwhile whether there is something for them.
    works = {kind: Work(work, abandon, kind) for kind in ("short", *IDLE)}
    pool = Pool(queue, works, dict.fromkeys(works, LANE))
    began, used = time.perf_counter(), time.process_time()
    running_pool = asyncio.create_task(pool.run())
    await done.wait()
    await pool.drain(60)
    await running_pool
    taken = time.perf_counter() - began, time.process_time() - used
    await database.close()
    return taken


async def _bare_seconds(directory: Path) -> float:
    """Returns how long a thread takes for two transactions a task, one after the other."""
    database = await _queued(directory)
    values = {"owner": "bare", "as": TaskState.DONE, "at": utcnow(), "why": None, "with": None}

    def make(connection: sqlite3.Connection, change: Change, values: Values) -> Rows:
        text = change.text(SQLITE)
        connection.execute("BEGIN IMMEDIATE")
        found = connection.execute(text.text, text.parameters(values)).fetchall()
        connection.execute("COMMIT")
        return found

    def work(connection: sqlite3.Connection) -> float:
        began = time.perf_counter()
        for _ in range(TASKS):
            [claim] = make(connection, _claiming(("short",)), values)
            make(connection, _ENDING, {**values, "claimed": claim[0]})
        return time.perf_counter() - began

    assert isinstance(database._changes, SqliteChanges)
    taken = await database._changes._thread.do(work)
    await database.close()
    return taken


async def _queued(directory: Path) -> Database:
    """Returns a database whose queue has the tasks."""
    database = Database(f"sqlite:///{directory / 'a.sqlite'}")
    await database.open()
    rows = [{"kind": "short", "namespace": f"n{n % NAMESPACES}"} for n in range(TASKS)]
    async with database.write() as session:
        await session.execute(insert(Task), rows)
    return database


def _start(scene: Scene) -> float:
    """Returns seconds from the start of the process until the first answer."""
    data = scene.fresh("data")
    with running(data) as daemon:
        fill(daemon, ENVIRONMENTS)
        daemon.kill()
    _crash(data)
    daemon = Daemon(data)
    began = time.perf_counter()
    daemon.start()
    answer = daemon.request("GET", "/build/?size=1")
    taken = time.perf_counter() - began
    assert answer.status_code == 200, answer.text
    daemon.kill()
    daemon.client.close()
    return taken


def _crash(data: Path) -> None:
    """Adds queued builds, and what builds that ran have left."""
    now = "2026-01-01 00:00:00.000000"
    first = 10 * ENVIRONMENTS + 1
    builds, tasks = [], []
    for n in range(QUEUED):
        build, environment, left = first + n, n % ENVIRONMENTS, n < LEFT
        builds.append((build, environment + 1, "BUILDING" if left else "QUEUED"))
        state = "RUNNING" if left else "QUEUED"
        tasks.append((build, f"ns{environment % NAMESPACES}", state, "dead" if left else None))
    with closing(sqlite3.connect(data / "condastore.sqlite")) as connection:
        connection.executemany(
            "INSERT INTO build (id, environment_id, status, specification_id, size, scheduled_on, "
            f"build_key_version) VALUES (?, ?, ?, 1, 0, '{now}', 2)",
            builds,
        )
        connection.executemany(
            "INSERT INTO task (build_id, namespace, state, lease_owner, kind, payload, priority, "
            "attempts, not_before, cancel_requested, created_on) "
            f"VALUES (?, ?, ?, ?, 'build', '{{}}', 0, 1, 0, 0, '{now}')",
            tasks,
        )
        connection.commit()
    for n in range(LEFT):
        for place in (".pkgs/work", ".scratch"):
            directory = data / "state" / place / f"left-{n}"
            directory.mkdir(parents=True)
            for number in range(FILES_LEFT):
                (directory / str(number)).touch()


if __name__ == "__main__":
    run(measure)
