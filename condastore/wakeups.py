"""What daemons on one PostgreSQL tell each other: that a task waits, and that one was cancelled.

It is told with the commit that makes it so. Whoever does not hear it finds out by looking, some
seconds later; the tables are the truth. Who listens is there: a command that needs the database for
itself finds that out by an advisory lock, which daemons share.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from condastore.database import Database
from condastore.errors import ConfigurationError, NotYet
from condastore.tables import Task, TaskState

if TYPE_CHECKING:
    import asyncpg

logger = logging.getLogger(__name__)

QUEUED = "condastore_queued"
CANCELED = "condastore_canceled"
# A connection that died in silence is found out by asking.
ASK_S = 10.0
ANSWER_S = 5.0
RECONNECT_S = 2.0
# "dmns" in ASCII; the schema's name tells those apart that share a database.
_PRESENCE = "0x646D6E73, hashtext(current_schema())"


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


@asynccontextmanager
async def alone(database: Database) -> AsyncIterator[None]:
    """No daemon works with a database meanwhile. Raises `ConfigurationError` if one does."""
    if database.is_sqlite:
        # There it is the data directory that has a lock.
        yield
        return
    connection = await _connected(database, "pg_try_advisory_lock")
    if connection is None:
        raise ConfigurationError(
            "a condastore works with the database (c.CondaStore.database_url, or the one to copy "
            "to); stop all daemons that do"
        )
    try:
        yield
    finally:
        connection.terminate()


async def _connected(database: Database, lock: str) -> "asyncpg.Connection[Any] | None":
    """Returns a connection that has the lock, for as long as it lives; None if others have it."""
    import asyncpg

    connection = None
    try:
        connection = await asyncpg.connect(database.dsn, timeout=ANSWER_S)
        if await connection.fetchval(f"SELECT {lock}({_PRESENCE})", timeout=ANSWER_S):
            connection, found = None, connection
            return found
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise NotYet(
            f"the database at CondaStore.database_url can't be opened: {str(error) or 'no answer'}"
        ) from error
    finally:
        if connection is not None:
            connection.terminate()
    return None


class Wakeups:
    """Hears what other daemons tell."""

    def __init__(
        self,
        database: Database,
        queued: Callable[[], None],
        canceled: Callable[[], None],
        connected: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`connected` is called whenever the server may be another than before."""
        self._database = database
        self._connected = connected
        self._heard = {QUEUED: queued, CANCELED: canceled}
        self._connection: asyncpg.Connection[Any] | None = None

    async def open(self) -> None:
        """Says that a daemon is here. Raises `ConfigurationError` if a command is at work that
        needs the database for itself; on SQLite nobody else can be there."""
        if self._database.is_sqlite:
            return
        self._connection = await _connected(self._database, "pg_try_advisory_lock_shared")
        if self._connection is None:
            raise NotYet(
                "condastore db or condastore storage is at work on the database at "
                "CondaStore.database_url; wait until it is done"
            )

    def close(self) -> None:
        """Is not here any more."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def run(self) -> None:
        """Listens until it is cancelled."""
        while not self._database.is_sqlite:
            try:
                if self._connection is None:
                    await self.open()
                await self._listen()
            except Exception as error:
                logger.warning("other daemons are not heard: %s", str(error) or "no answer")
            finally:
                self.close()
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        assert self._connection is not None
        for channel in self._heard:
            await self._connection.add_listener(channel, self._hear)
        # What was told before is not told again.
        for call in self._heard.values():
            call()
        if self._connected is not None:
            await self._connected()
        while True:
            await asyncio.sleep(ASK_S)
            await self._connection.fetchval("SELECT 1", timeout=ANSWER_S)

    def _hear(self, _connection: Any, _process: int, channel: str, _payload: str) -> None:
        self._heard[channel]()
