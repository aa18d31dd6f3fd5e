"""What builds a list shows."""

import pytest
from sqlalchemy import select

from condastore.database import Database
from condastore.packages import record_packages
from condastore.service.builds import builds_with
from condastore.tables import Build
from tests.builders.test_popularity import record
from tests.rows import add_build

MANY = [f"package-{number}" for number in range(200)]


@pytest.mark.parametrize(
    ("names", "expected"),
    [(["a"], [1, 2]), (["b"], [2, 3]), (["a", "b", "a"], [2]), (["a", "none"], []), (MANY, [4])],
)
async def test_builds_that_contain_all_of_some_packages(
    database: Database, names: list[str], expected: list[int]
) -> None:
    for contained in (["a"], ["a", "b"], ["b"], MANY):
        build_id = await add_build(database)
        async with database.write() as session:
            await record_packages(session, build_id, [record(name) for name in contained])
    query = select(Build.id).where(Build.id.in_(builds_with(names))).order_by(Build.id)
    async with database.read() as session:
        assert list(await session.scalars(query)) == expected
