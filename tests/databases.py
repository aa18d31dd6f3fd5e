"""The databases that the tests run against."""

import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
from alembic import command
from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from condastore.changes import SqliteChanges
from condastore.database import Database, epoch
from condastore.migrations.upgrade import configuration
from condastore.tasks import LEASE_S, TAKEOVER_S, TaskQueue
from devtools.servers import PostgreSQLServer, running

FIRST = "0001"
URLS: dict[str, Callable[[Path], str]] = {
    "sqlite": lambda directory: f"sqlite:///{directory / 'condastore.sqlite'}",
}


@contextmanager
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """A running PostgreSQL server of its own."""
    # Pytest's own directories are closed to the user that it runs as.
    with tempfile.TemporaryDirectory(prefix="condastore-postgresql-") as directory:
        os.chmod(directory, 0o755)
        server = PostgreSQLServer(Path(directory) / "server")
        with running(server):
            yield server


async def fresh(server: PostgreSQLServer) -> str:
    """Returns the URL of a user who has an empty schema: cheaper than a database of its own."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    connection = await asyncpg.connect(server.url())
    try:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{server.password}'")
        await connection.execute(f"CREATE SCHEMA AUTHORIZATION {name}")
    finally:
        await connection.close()
    return server.url(user=name)


@asynccontextmanager
async def opened(url: str, *, connections: int = 10) -> AsyncIterator[Database]:
    """A database with the newest schema."""
    database = Database(url, connections=connections)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def traced(database: Database) -> list[str]:
    """Returns a list that gets every statement of a SQLite database's changes from now on."""
    statements: list[str] = []
    assert isinstance(database._changes, SqliteChanges)
    await database._changes._thread.do(
        lambda connection: connection.set_trace_callback(statements.append)
    )
    return statements


async def make_old(url: str, rows: Sequence[str]) -> None:
    """Makes a database with the first schema, and inserts rows as that has them."""

    def make(connection: Connection) -> None:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST)
        for statement in rows:
            connection.execute(text(statement))

    database = Database(url)
    async with database._writer.begin() as connection:
        await connection.run_sync(make)
    await database.close()


async def lasting(queue: TaskQueue) -> TaskQueue:
    """Returns a queue as if it had looked for what the dead left for as long as a lease lasts."""
    async with queue._database.read() as session:
        now = await session.scalar(select(epoch())) or 0.0
    for looks in range(int(LEASE_S / TAKEOVER_S), -1, -1):
        queue.contact.reached(now - looks * TAKEOVER_S)
    return queue
