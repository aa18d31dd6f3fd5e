"""What daemons on one PostgreSQL tell each other: that a task waits, and that one was cancelled.

It is told with the commit that makes it so. Whoever does not hear it finds out by looking, some
seconds later; the tables are the truth.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from condastore.database import Database
from condastore.tables import Task, TaskState

logger = logging.getLogger(__name__)

QUEUED = "condastore_queued"
CANCELED = "condastore_canceled"
# A connection that died in silence is found out by asking.
ASK_S = 10.0
ANSWER_S = 5.0
RECONNECT_S = 2.0


@event.listens_for(Session, "after_flush")
def _tell(session: Session, _: Any) -> None:
    """Tells of the tasks that a session adds or changes, once a flush."""
    tasks = [row for row in (*session.new, *session.dirty) if isinstance(row, Task)]
    if not tasks or session.get_bind().dialect.name != "postgresql":
        return
    if any(task.state in (None, TaskState.QUEUED) for task in tasks):
        session.connection().execute(text(f"NOTIFY {QUEUED}"))
    if any(task.state == TaskState.RUNNING and task.cancel_requested for task in tasks):
        session.connection().execute(text(f"NOTIFY {CANCELED}"))


async def tell_queued(session: AsyncSession) -> None:
    """Tells that a task is back in the queue, where it was not put by an object of the session."""
    connection = await session.connection()
    if connection.dialect.name == "postgresql":
        await connection.execute(text(f"NOTIFY {QUEUED}"))


class Wakeups:
    """Hears what other daemons tell."""

    def __init__(
        self, database: Database, queued: Callable[[], None], canceled: Callable[[], None]
    ) -> None:
        self._database = database
        self._heard = {QUEUED: queued, CANCELED: canceled}

    async def run(self) -> None:
        """Listens until it is cancelled; on SQLite nobody else is there to be heard."""
        if self._database.is_sqlite:
            return
        while True:
            try:
                await self._listen()
            except Exception as error:
                logger.warning("other daemons are not heard: %s", str(error) or "no answer")
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        import asyncpg

        connection = await asyncpg.connect(self._database.dsn, timeout=ANSWER_S)
        try:
            for channel in self._heard:
                await connection.add_listener(channel, self._hear)
            # What was told before is not told again.
            for call in self._heard.values():
                call()
            while True:
                await asyncio.sleep(ASK_S)
                await connection.fetchval("SELECT 1", timeout=ANSWER_S)
        finally:
            connection.terminate()

    def _hear(self, _connection: Any, _process: int, channel: str, _payload: str) -> None:
        self._heard[channel]()
