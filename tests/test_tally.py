"""Whether the database is as new as what was done on its word."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.database import Database
from condastore.tables import KeyValueStore
from condastore.tally import Tally


async def counted(database: Database, tally: Tally) -> int:
    async with database.write() as session:
        number = await tally.count(session)
    await tally.keep(number)
    return number


async def test_changes_that_the_database_has_lost_are_told_once(
    database: Database, tmp_path: Path
) -> None:
    tally, elsewhere = Tally(database, tmp_path / "one"), Tally(database, tmp_path / "two")
    assert await tally.lost() == 0
    numbers = [await counted(database, each) for each in (tally, elsewhere, tally)]
    assert numbers == [1, 2, 3]
    assert (await tally.lost(), await elsewhere.lost()) == (0, 0)

    # As of a replica that has the first change only.
    async with database.write() as session:
        await session.execute(update(KeyValueStore).values(value=1))
    assert (await tally.lost(), await elsewhere.lost()) == (2, 1)
    await elsewhere.catch_up()
    assert (await tally.lost(), await elsewhere.lost()) == (1, 0)
    await tally.catch_up()
    assert (await tally.lost(), await elsewhere.lost()) == (0, 0)
    assert await counted(database, elsewhere) == 4


async def test_a_loss_is_noticed_by_who_counts_on_before_anybody_looks(
    database: Database, tmp_path: Path
) -> None:
    await counted(database, Tally(database, tmp_path / "tally"))
    tally = Tally(database, tmp_path / "tally")
    assert await counted(database, tally) == 2
    async with database.write() as session:
        await session.execute(update(KeyValueStore).values(value=1))
    # One that comes to nothing, and one that is committed.
    with pytest.raises(InterruptedError):
        async with database.write() as session:
            await tally.count(session)
            raise InterruptedError
    assert await counted(database, tally) == 3
    assert tally.noticed.is_set()
    assert await tally.lost() == 1
    await tally.catch_up()
    assert await tally.lost() == 0


async def test_what_is_committed_while_somebody_looks_is_no_loss(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally(database, tmp_path / "tally")
    await counted(database, tally)
    read = database.read

    @asynccontextmanager
    async def meanwhile() -> AsyncIterator[AsyncSession]:
        async with read() as session:
            yield session
        await counted(database, tally)

    monkeypatch.setattr(database, "read", meanwhile)
    assert await tally.lost() == 0


async def test_an_older_number_is_not_kept_after_a_newer_one(
    database: Database, tmp_path: Path
) -> None:
    tally = Tally(database, tmp_path / "tally")
    for number in (3, 2):
        await tally.keep(number)
    assert await tally.lost() == 3
