"""The revisions on both databases, with rows in them."""

import asyncio
import os
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.engine import Connection

from condastore.builds import BuildStatus
from condastore.database import Database
from condastore.errors import ConfigurationError
from condastore.migrations import HEAD
from condastore.tables import Base, Build, Task
from tests.databases import FIRST, make_old, opened

NOW = "2026-01-01 00:00:00"
# As that revision has the tables; what those of today have besides came later.
ROWS = (
    "INSERT INTO namespace (name) VALUES ('default')",
    "INSERT INTO specification (name, spec, sha256, created_on, is_lockfile) "
    f"VALUES ('env', '{{}}', 'x', '{NOW}', false)",
    "INSERT INTO environment (namespace_id, name) VALUES (1, 'env')",
    "INSERT INTO build (specification_id, environment_id, status, size, scheduled_on, "
    f"build_key_version) VALUES (1, 1, 'COMPLETED', 0, '{NOW}', 2)",
    "UPDATE environment SET current_build_id = 1",
    "INSERT INTO task (kind, namespace, build_id, payload, priority, state, attempts, not_before, "
    "cancel_requested, created_on) "
    f"VALUES ('build', 'default', 1, '{{}}', 0, 'QUEUED', 1, 0, false, '{NOW}')",
)


@pytest.fixture
async def old(database_url: str) -> str:
    """A database with the first schema, and a build in it."""
    await make_old(database_url, ROWS)
    return database_url


def differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return list(compare_metadata(context, Base.metadata))


async def test_the_revisions_bring_rows_and_schema_to_the_newest(old: str) -> None:
    async with opened(old) as database:
        assert await database.schema_version() == HEAD
        async with database.read() as session:
            [build] = await session.scalars(select(Build))
            assert (build.status, build.author) == (BuildStatus.COMPLETED, None)
            [task] = await session.scalars(select(Task))
            assert (task.build_id, task.attempts, task.deaths) == (1, 1, 0)
        if not database.is_sqlite:
            # Of SQLite tests/test_database.py holds the statements against each other.
            async with database._writer.connect() as connection:
                assert await connection.run_sync(differences) == []
        assert await database.check() == []


async def test_the_file_is_backed_up_before(old: str, tmp_path: Path) -> None:
    backup = tmp_path / f"condastore.sqlite.{FIRST}"
    async with opened(old) as database:
        if not database.is_sqlite:
            return
    async with opened(old):
        pass
    database = Database(f"sqlite:///{backup}", upgrade=False)
    assert await database.schema_version() == FIRST
    async with database.read() as session:
        assert await session.scalar(select(Build.id)) == 1
    assert await database.check() == [
        f"the schema is {FIRST}, this program needs {HEAD}; upgrade it: condastore db upgrade"
    ]
    await database.close()
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]


async def test_daemons_that_start_at_once_migrate_once(old: str) -> None:
    if old.startswith("sqlite"):
        # One daemon owns the file.
        return

    async def start() -> None:
        async with opened(old):
            pass

    await asyncio.gather(*(start() for _ in range(3)))
    async with opened(old) as database:
        assert await database.check() == []


async def test_a_newer_schema_is_refused_and_stays_as_it_is(
    database_url: str, tmp_path: Path
) -> None:
    async with opened(database_url) as database, database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="schema 9999 is newer than this program"):
        async with opened(database_url):
            pass
    assert not [name for name in os.listdir(tmp_path) if name.endswith("9999")]
    database = Database(database_url)
    assert "it is newer" in (await database.check())[0]
    await database.close()
