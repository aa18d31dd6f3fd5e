"""Transactions, many at once, cut short, and on databases that can't be used."""

import asyncio
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, delete, func, select, text, update
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.changes import SqliteChanges
from condastore.database import Database, epoch
from condastore.errors import ConfigurationError, DatabaseUnavailable, InvalidInput
from condastore.migrations import HEAD
from condastore.migrations.upgrade import configuration, upgrade
from condastore.service.chronicle import warn_of_a_long_journal
from condastore.sqlite_driver import JOURNAL_BYTES
from condastore.tables import (
    Base,
    Build,
    BuildArtifact,
    Environment,
    KeyValueStore,
    Namespace,
)
from condastore.views import Statement
from devtools.faultproxy import Silence, proxied
from devtools.servers import PostgreSQLServer
from tests.databases import URLS, fresh, opened, postgresql_server
from tests.patience import PATIENCE_S
from tests.rows import add_build


async def names(database: Database) -> list[str]:
    async with database.read() as session:
        return list(await session.scalars(select(Namespace.name).order_by(Namespace.name)))


async def add_pair(database: Database, name: str) -> None:
    """One transaction of several statements, one of which leaves a cursor open for a while."""
    async with database.write() as session:
        session.add(Namespace(name=f"{name}-a"))
        await session.flush()
        await session.scalar(select(func.count()).select_from(Namespace))
        session.add(Namespace(name=f"{name}-b"))


# Transactions


async def test_sqlite_is_durable_and_strict_for_readers_and_the_writer(database: Database) -> None:
    if not database.is_sqlite:
        pytest.skip("SQLite has these settings")
    for transaction in (database.read, database.write):
        async with transaction() as session:
            pragmas = [
                await session.scalar(text(f"PRAGMA {name}"))
                for name in ("journal_mode", "synchronous", "foreign_keys")
            ]
        assert pragmas == ["wal", 2, 1]

    def of_changes(connection: sqlite3.Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

    assert isinstance(database._changes, SqliteChanges)
    assert await database._changes._thread.do(of_changes) == ["wal", 2, 1]


async def test_a_row_that_refers_to_nothing_is_refused(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(Environment(namespace_id=7, name="x"))


async def test_writers_that_read_first_lose_nothing(database: Database) -> None:
    async with database.write() as session:
        session.add(KeyValueStore(prefix="p", key="k", value=0))

    async def increment() -> None:
        async with database.write() as session:
            row = await session.scalar(select(KeyValueStore).with_for_update())
            assert row is not None
            row.value += 1

    async def watch() -> None:
        seen = 0
        while seen < 60:
            async with database.read() as session:
                value = await session.scalar(select(KeyValueStore.value)) or 0
            assert value >= seen
            seen = value

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(watch())
        for _ in range(60):
            group.create_task(increment())


async def test_a_reader_sees_one_state_and_does_not_hold_up_the_writer(database: Database) -> None:
    async with database.read() as session:
        assert await session.scalar(select(func.count()).select_from(Namespace)) == 0
        await add_pair(database, "x")
        assert await session.scalar(select(func.count()).select_from(Namespace)) == 0
    assert await names(database) == ["x-a", "x-b"]


async def test_an_exception_rolls_back(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.write() as session:
            session.add(Namespace(name="x"))
            await session.flush()
            raise ZeroDivisionError
    await add_pair(database, "y")
    assert await names(database) == ["y-a", "y-b"]


async def test_the_epoch_is_the_wall_clock(database: Database) -> None:
    before = time.time()
    async with database.read() as session:
        found = await session.scalar(select(epoch()))
    assert found is not None
    assert before - 1 < found < time.time() + 1


async def test_F38_a_journal_that_somebody_made_long_is_cut_when_he_has_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.service.chronicle.LONG_JOURNAL_BYTES", JOURNAL_BYTES)
    async with opened(URLS["sqlite"](tmp_path)) as database:

        async def add(megabytes: int) -> None:
            for _ in range(megabytes):
                async with database.write() as session:
                    await session.execute(delete(KeyValueStore))
                    session.add(KeyValueStore(prefix="p", key="k", value="x" * 2**20))

        with closing(sqlite3.connect(tmp_path / "condastore.sqlite")) as reader:
            await add(1)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM keyvaluestore").fetchall()
            await add(20)
            assert database.journal_bytes > JOURNAL_BYTES
            warn_of_a_long_journal(database)
        assert "end it (fuser names it)" in caplog.text
        # The first write cleans up, and the next begins anew.
        await add(2)
        assert database.journal_bytes <= JOURNAL_BYTES


# Cancellation


async def cancel_after(database: Database, name: str, steps: int, delay_s: float) -> None:
    writing = asyncio.create_task(add_pair(database, name))
    for _ in range(steps):
        await asyncio.sleep(0)
    await asyncio.sleep(delay_s)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)


async def test_a_write_that_is_cancelled_anywhere_is_whole_or_not_there(
    database: Database,
) -> None:
    """And the next one is not held up: the lock went with the transaction."""
    await add_pair(database, "first")
    began = time.perf_counter()
    await add_pair(database, "second")
    usual_s = time.perf_counter() - began
    slowest = 0.0
    for number in range(60):
        # From before its first step to after its commit.
        delay_s = usual_s * 1.3 * number / 60
        await cancel_after(database, f"{number}-cut", number % 7, delay_s)
        began = time.perf_counter()
        await add_pair(database, f"{number}-next")
        slowest = max(slowest, time.perf_counter() - began)
    found = set(await names(database))
    for number in range(60):
        assert {f"{number}-next-a", f"{number}-next-b"} <= found
        assert (f"{number}-cut-a" in found) == (f"{number}-cut-b" in found)
    # A lock that stays is waited for for ten seconds.
    assert slowest < 5


async def test_the_exception_of_a_cancelled_write_does_not_keep_its_transaction(
    database: Database,
) -> None:
    """Its traceback holds a cursor, which would hold SQLite's lock beyond the connection."""
    kept = []
    for number in range(40):
        writing = asyncio.create_task(add_pair(database, str(number)))
        await asyncio.sleep(number * 0.0002)
        writing.cancel()
        try:
            await writing
        except asyncio.CancelledError as error:
            kept.append(error)
        async with asyncio.timeout(PATIENCE_S), database.write() as session:
            session.add(Namespace(name=f"after-{number}"))
    assert kept


async def test_a_writer_that_gives_up_waiting_leaves_the_queue(database: Database) -> None:
    async with database.write() as session:
        waiting = [asyncio.create_task(add_pair(database, str(number))) for number in range(3)]
        await asyncio.sleep(0.02)
        waiting[1].cancel()
        await asyncio.sleep(0)
        session.add(Namespace(name="holder"))
    await asyncio.gather(*waiting, return_exceptions=True)
    found = set(await names(database))
    assert {"holder", "0-a", "0-b", "2-a", "2-b"} <= found
    if database.is_sqlite:
        assert [task.cancelled() for task in waiting] == [False, True, False]
    # On PostgreSQL nobody waits, so it may have come to its end.
    assert found & {"1-a", "1-b"} in ([set()] if database.is_sqlite else [set(), {"1-a", "1-b"}])


async def test_a_cancelled_read_leaves_the_readers_as_they_were(database: Database) -> None:
    for number in range(30):
        reading = asyncio.create_task(names(database))
        await asyncio.sleep(number * 0.0001)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*(names(database) for _ in range(20))) == [[]] * 20


# The schema


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory.from_config(configuration()).get_heads() == [HEAD]


def test_the_revisions_make_the_schema_that_a_new_database_gets() -> None:
    def schema(make: Callable[[Connection], None]) -> dict[str, list[str]]:
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            make(connection)
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql > ''"))
            made = {name: clauses(sql) for name, sql in rows if name != "alembic_version"}
        engine.dispose()
        return made

    def clauses(sql: str) -> list[str]:
        # Constraints may stand in any order; commas in parentheses are within one.
        inner = " ".join(sql.split("(", 1)[1].rsplit(")", 1)[0].split())
        return sorted(clause.strip() for clause in re.split(r",(?![^(]*\))", inner))

    assert schema(lambda connection: upgrade(connection, None)) == schema(Base.metadata.create_all)


async def test_a_number_of_a_build_is_given_once(database: Database) -> None:
    numbers = []
    for _ in range(3):
        numbers.append(await add_build(database))
        async with database.write() as session:
            await session.execute(delete(Build))
    assert numbers == sorted(set(numbers))


async def test_an_older_database_keeps_everything(tmp_path: Path) -> None:
    url = URLS["sqlite"](tmp_path)
    now = "2026-01-01 00:00:00.000000"
    engine = create_engine(url)
    with engine.begin() as connection:
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for statement in (
            "INSERT INTO namespace (id, name) VALUES (1, 'n')",
            "INSERT INTO specification (id, name, spec, sha256, created_on, is_lockfile) "
            f"VALUES (1, 'e', '{{}}', 'x', '{now}', 0)",
            "INSERT INTO environment (id, namespace_id, name) VALUES (1, 1, 'e')",
            "INSERT INTO build (id, specification_id, environment_id, status, size, scheduled_on, "
            f"build_key_version, hash) VALUES (7, 1, 1, 'COMPLETED', 3000000000, '{now}', 2, 'h')",
            "UPDATE environment SET current_build_id = 7",
            "INSERT INTO build_artifact (build_id, artifact_type, key) VALUES (7, 'LOGS', 'k')",
        ):
            connection.execute(text(statement))
    engine.dispose()
    async with opened(url) as database:
        async with database.read() as session:
            row = (await session.scalars(select(Build))).one()
            assert (row.id, row.size, row.hash, row.status) == (7, 3 * 10**9, "h", "COMPLETED")
            assert await session.scalar(select(Environment.current_build_id)) == 7
            assert await session.scalar(select(BuildArtifact.build_id)) == 7
        with pytest.raises(IntegrityError):
            async with database.write() as session:
                await session.execute(delete(Environment))
        async with database.write() as session:
            await session.execute(update(Environment).values(current_build_id=None))
            await session.execute(delete(Build))
            assert await session.scalar(select(func.count()).select_from(BuildArtifact)) == 0
        assert await add_build(database) == 8


async def test_opening_twice_changes_nothing(database_url: str) -> None:
    for _ in range(2):
        async with opened(database_url) as database:
            await add_pair(database, str(len(await names(database))))
    async with opened(database_url) as database:
        assert await names(database) == ["0-a", "0-b", "2-a", "2-b"]


@pytest.mark.parametrize(
    ("version", "upgrade", "message"),
    [
        ("9999", True, "schema 9999 is newer than this program"),
        ("0000", False, "is 0000, this program needs .*upgrade_db = True"),
    ],
)
async def test_a_schema_that_is_not_ours_is_refused(
    database_url: str, version: str, upgrade: bool, message: str
) -> None:
    set_version = text("UPDATE alembic_version SET version_num = :v")
    async with opened(database_url) as database, database.write() as session:
        await session.execute(set_version, {"v": version})
    database = Database(database_url, upgrade=upgrade)
    with pytest.raises(ConfigurationError, match=message):
        await database.open()
    await database.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "is not a database URL"),
        ("mysql://user:secret@host/name", "names 'mysql'; condastore works with sqlite and"),
        ("postgresql://me:secret@127.0.0.1:1/x", "database_url .*me:.*@127.0.0.1:1/x.* can't be"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////proc/nothing/x.sqlite", "/proc/nothing/x.sqlite.* can't be opened"),
        ("sqlite:////proc", "can't be opened: unable to open database file"),
        (f"sqlite:///{__file__}", "can't be opened: file is not a database"),
    ],
)
async def test_a_database_that_can_not_be_used_says_why(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        async with opened(url):
            pass
    assert "secret" not in str(caught.value)


async def test_a_wrong_password_is_one_sentence_without_it(postgresql: PostgreSQLServer) -> None:
    url = (await fresh(postgresql)).replace(postgresql.password, "not-the-secret")
    with pytest.raises(ConfigurationError, match="password authentication failed") as caught:
        async with opened(url):
            pass
    assert "CondaStore.database_url" in str(caught.value)
    assert "not-the-secret" not in str(caught.value)


# PostgreSQL that goes away


@pytest.fixture
def server() -> Iterator[PostgreSQLServer]:
    """A server to be stopped."""
    with postgresql_server() as found:
        yield found


async def test_a_restart_of_the_server_is_survived(server: PostgreSQLServer) -> None:
    async with opened(server.url()) as database:
        await add_pair(database, "before")
        server.kill()
        for transaction in (database.read, database.write):
            with pytest.raises(DatabaseUnavailable, match="try again later"):
                async with transaction() as session:
                    await session.scalar(select(1))
        with pytest.raises(DatabaseUnavailable):
            await database.view(lambda view: None)
        server.start()
        await add_pair(database, "after")
        assert await names(database) == ["after-a", "after-b", "before-a", "before-b"]


async def test_what_must_be_written_waits_for_the_server(server: PostgreSQLServer) -> None:
    async with opened(server.url()) as database:
        server.stop()
        attempts = []

        async def change(session: AsyncSession) -> str:
            attempts.append(session)
            session.add(Namespace(name="x"))
            return "done"

        insisting = asyncio.create_task(database.insist(change))
        await asyncio.sleep(0.3)
        assert not insisting.done()
        server.start()
        assert await insisting == "done"
        assert await names(database) == ["x"]


async def test_a_connection_that_is_cut_within_a_transaction_is_told_as_such(
    postgresql: PostgreSQLServer,
) -> None:
    async with opened(await fresh(postgresql)) as database:
        with pytest.raises(DatabaseUnavailable):
            async with database.write() as session:
                session.add(Namespace(name="x"))
                await session.flush()
                mine = await session.scalar(text("SELECT pg_backend_pid()"))
                connection = await asyncpg.connect(postgresql.url())
                await connection.execute(f"SELECT pg_terminate_backend({mine})")
                await connection.close()
                await session.scalar(select(1))
        assert await names(database) == []


async def test_no_more_connections_are_opened_than_the_limit(
    postgresql: PostgreSQLServer,
) -> None:
    url = await fresh(postgresql)
    async with opened(url, connections=3) as database:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                group.create_task(add_pair(database, str(number)))
        count = text("SELECT count(*) FROM pg_stat_activity WHERE usename = current_user")
        async with database.read() as session:
            found = await session.scalar(count)
        assert found is not None and found <= 3


async def test_connections_that_are_all_busy_are_told_as_such_and_are_no_fault(
    postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.postgresql_driver.POOL_S", 0.2)
    async with opened(await fresh(postgresql), connections=1) as database:
        async with database.read():
            with pytest.raises(DatabaseUnavailable):
                async with database.write():
                    pass
            await database.ping()
        assert await names(database) == []


async def test_a_server_that_falls_silent_is_told_as_such_and_forgotten(
    postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.postgresql_driver.COMMAND_S", 1)
    monkeypatch.setattr("condastore.postgresql_driver.CONNECT_S", 1)
    url = await fresh(postgresql)
    with proxied(postgresql.port) as proxy:
        async with opened(url.replace(f":{postgresql.port}/", f":{proxy.port}/")) as database:
            # In a statement, at the commit, and when a connection is taken.
            with pytest.raises(DatabaseUnavailable):
                async with database.write() as session:
                    await session.execute(select(1))
                    proxy.trouble.silence = Silence.BOTH
                    await session.execute(select(1))
            proxy.trouble.silence = Silence.NONE
            with pytest.raises(DatabaseUnavailable):
                async with database.write() as session:
                    await session.execute(select(1))
                    proxy.trouble.silence = Silence.BOTH
            with pytest.raises(DatabaseUnavailable):
                await names(database)
            with pytest.raises(TimeoutError):
                await database.ping()
            proxy.trouble.silence = Silence.NONE
            assert await names(database) == []
            await database.ping()


async def test_an_answer_to_a_commit_that_is_lost_changes_nothing_twice(
    postgresql: PostgreSQLServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.postgresql_driver.COMMAND_S", 1)
    url = await fresh(postgresql)
    with proxied(postgresql.port) as proxy:
        async with opened(url.replace(f":{postgresql.port}/", f":{proxy.port}/")) as database:
            tries = []

            async def change(session: AsyncSession) -> None:
                there = await session.scalar(select(Namespace.id))
                if there is None:
                    session.add(Namespace(name="x"))
                    await session.flush()
                tries.append(there)
                proxy.trouble.silence = Silence.NONE if len(tries) > 1 else Silence.ANSWERS

            insisting = asyncio.create_task(database.insist(change))
            async with opened(url) as other, asyncio.timeout(30):
                while await names(other) != ["x"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            proxy.trouble.silence = Silence.NONE
            await insisting
            assert len(tries) == 2 and tries[0] is None and tries[1] is not None
            assert await names(database) == ["x"]


def test_the_daemon_does_not_wait_for_what_only_postgresql_needs() -> None:
    program = "import sys; import condastore.daemon; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = set(run.stdout.split())
    assert "condastore.daemon" in modules
    heavy = {"sqlalchemy.dialects.postgresql", "asyncpg", "redis", "alembic", "rattler"}
    assert not heavy & modules


async def test_only_what_may_pass_is_to_be_tried_again(database: Database) -> None:
    """Of all that drivers call operational, much is a statement that will never do."""
    with pytest.raises(DBAPIError, match="nonesuch"):
        async with database.read() as session:
            await session.execute(text("SELECT * FROM nonesuch"))
    with pytest.raises(DBAPIError, match="nonesuch"):
        async with database.write() as session:
            await session.execute(text("SELECT nonesuch(1)"))
    await add_pair(database, "x")
    assert await names(database) == ["x-a", "x-b"]
    if database.is_sqlite:
        with pytest.raises(DatabaseUnavailable):
            async with database.write() as session:
                await session.execute(text("PRAGMA query_only=ON"))
                session.add(Namespace(name="y"))


async def test_a_text_with_a_nul_is_a_mistake_of_who_sent_it(database: Database) -> None:
    query = select(Namespace.id).where(Namespace.name == "a\0")
    statement = Statement(query)
    if database.is_sqlite:
        assert await database.view(lambda view: view.rows(statement, {})) == []
        return
    with pytest.raises(InvalidInput, match="NUL"):
        await database.view(lambda view: view.rows(statement, {}))
    with pytest.raises(InvalidInput, match="NUL"):
        async with database.write() as session:
            session.add(Namespace(name="a\0"))
    async with database.read() as session:
        assert (await session.scalars(select(Namespace.id))).all() == []


@pytest.mark.parametrize("value", ["é\n", "\ud800", 2**70, 1.5, None, {"a": [True, {"b": []}]}])
async def test_json_comes_back_as_it_was(database: Database, value: object) -> None:
    async with database.write() as session:
        session.add(KeyValueStore(prefix="test", key="json", value={"found": value}))
    async with database.read() as session:
        found = await session.scalar(
            select(KeyValueStore.value).where(KeyValueStore.prefix == "test")
        )
    assert found == {"found": value}
