"""How many builds have a package: a snapshot, for the order of an image's layers.

If it moved with every build, so would the order, and container engines would fetch again what
they have. So it is taken anew once a week at most.
"""

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from condastore.database import Database
from condastore.tables import CondaPackageBuild, KeyValueStore, age, build_packages, utcnow

LIFETIME = timedelta(days=7)
# Those beyond are in so few builds that it makes no difference.
PACKAGES = 5000
_PLACE = {"prefix": "image", "key": "popularity"}


async def popularity(database: Database) -> dict[str, int]:
    """Returns the numbers of builds by the sha256 of their packages, as of the last snapshot."""
    async with database.read() as session:
        row = await session.scalar(select(KeyValueStore).filter_by(**_PLACE))
    if row is not None and age(datetime.fromisoformat(row.value["taken_on"])) < LIFETIME:
        return dict(row.value["builds"])
    return await _take(database)


async def _take(database: Database) -> dict[str, int]:
    count = func.count(build_packages.c.build_id)
    query = (
        select(CondaPackageBuild.sha256, count)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .group_by(CondaPackageBuild.sha256)
        .having(count > 1)
        .order_by(count.desc(), CondaPackageBuild.sha256)
        .limit(PACKAGES)
    )
    async with database.write() as session:
        builds = dict((await session.execute(query)).all())
        value: dict[str, Any] = {"taken_on": utcnow().isoformat(), "builds": builds}
        row = await session.scalar(select(KeyValueStore).filter_by(**_PLACE))
        if row is None:
            session.add(KeyValueStore(**_PLACE, value=value))
        else:
            row.value = value
    return builds
