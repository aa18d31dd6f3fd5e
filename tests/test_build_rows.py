"""What comes with the row of a build."""

import pytest
from sqlalchemy.exc import InvalidRequestError

from condastore.build_rows import find_build
from condastore.database import Database
from tests.rows import SPEC, add_build


async def test_what_a_specification_says_comes_only_if_it_is_asked_for(database: Database) -> None:
    build_id = await add_build(database)
    async with database.read() as session:
        specification = (await find_build(session, build_id)).specification
        assert specification.name == "env"
        with pytest.raises(InvalidRequestError):
            _ = specification.spec
        found = await find_build(session, build_id, with_spec=True)
        assert found.specification.spec == SPEC
