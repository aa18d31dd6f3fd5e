"""What waits and runs now, for administrators."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, select

from condastore.access import Caller
from condastore.service.overview import usual_seconds
from condastore.service.parts import Parts
from condastore.tables import Build, Environment, Task, TaskState

SHOWN = 200


@dataclass(frozen=True)
class QueuedTask:
    """A task with the build that it is about, if it is about one."""

    id: int
    kind: str
    namespace: str
    environment: str | None
    build_id: int | None
    state: TaskState
    attempts: int
    created_on: datetime
    started_on: datetime | None
    """When its build began, for builds."""


@dataclass(frozen=True)
class Queue:
    """The first tasks of the queue; `count` is the number of all."""

    tasks: list[QueuedTask]
    count: int
    usual_s: float | None
    """The median duration of the last builds."""


async def queue(parts: Parts, caller: Caller) -> Queue:
    """Returns what runs and then what waits, oldest first. For who may read the settings of all."""
    caller.require("setting::read", "")
    active = Task.state.in_([TaskState.QUEUED, TaskState.RUNNING])
    query = (
        select(
            Task.id,
            Task.kind,
            Task.namespace,
            Environment.name,
            Task.build_id,
            Task.state,
            Task.attempts,
            Task.created_on,
            Build.started_on,
        )
        .outerjoin(Build, Build.id == Task.build_id)
        .outerjoin(Environment, Environment.id == Build.environment_id)
        .where(active)
        .order_by(case((Task.state == TaskState.RUNNING, 0), else_=1), Task.id)
        .limit(SHOWN)
    )
    async with parts.database.read() as session:
        tasks = [QueuedTask(*row) for row in await session.execute(query)]
        count = await session.scalar(select(func.count()).where(active)) or 0
        return Queue(tasks, count, await usual_seconds(session))
