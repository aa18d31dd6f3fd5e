"""Whether the database is as new as what was done on its word."""

from pathlib import Path

from sqlalchemy import update

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


async def test_an_older_number_is_not_kept_after_a_newer_one(
    database: Database, tmp_path: Path
) -> None:
    tally = Tally(database, tmp_path / "tally")
    for number in (3, 2):
        await tally.keep(number)
    assert await tally.lost() == 3
