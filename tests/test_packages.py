"""The packages of builds, recorded once each."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from condastore.database import Database
from condastore.packages import record_packages
from condastore.tables import (
    CondaChannel,
    CondaPackage,
    CondaPackageBuild,
    build_packages,
)
from tests.rows import add_build


def record(name: str = "numpy", version: str = "1.0", **values: Any) -> dict[str, Any]:
    return {
        "channel": "https://conda.anaconda.org/conda-forge",
        "name": name,
        "version": version,
        "build": "py_0",
        "build_number": 0,
        "subdir": "linux-64",
        "sha256": f"{name}-{version}",
        **values,
    }


async def write(database: Database, build_id: int, records: list[dict[str, Any]]) -> None:
    async with database.write() as session:
        await record_packages(session, build_id, records)


async def counts(database: Database) -> list[int]:
    """The rows of channels, packages, their files, and links to builds."""
    tables = (CondaChannel, CondaPackage, CondaPackageBuild, build_packages)
    async with database.read() as session:
        return [
            await session.scalar(select(func.count()).select_from(table)) or 0 for table in tables
        ]


async def names_of(database: Database, build_id: int) -> list[tuple[str, str, str]]:
    query = (
        select(CondaPackage.name, CondaPackage.version, CondaPackageBuild.sha256)
        .join(CondaPackageBuild, CondaPackageBuild.package_id == CondaPackage.id)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .where(build_packages.c.build_id == build_id)
        .order_by(CondaPackage.name, CondaPackage.version, CondaPackageBuild.sha256)
    )
    async with database.read() as session:
        return [(name, version, digest) for name, version, digest in await session.execute(query)]


async def test_two_builds_share_their_packages(database: Database) -> None:
    first, second = await add_build(database), await add_build(database)
    await write(database, first, [record("a"), record("b")])
    await write(database, second, [record("b"), record("c")])
    assert await counts(database) == [1, 3, 3, 4]
    assert await names_of(database, second) == [("b", "1.0", "b-1.0"), ("c", "1.0", "c-1.0")]


async def test_recording_again_changes_nothing(database: Database) -> None:
    """A publish that a crash cut off is done again."""
    build_id = await add_build(database)
    for _ in range(2):
        await write(database, build_id, [record("a"), record("a"), record("b")])
        assert await counts(database) == [1, 2, 2, 2]


async def test_what_differs_in_anything_is_another_file(database: Database) -> None:
    build_id = await add_build(database)
    variants = [
        record(),
        record(subdir="noarch"),
        record(build="py_1"),
        record(build_number=1),
        record(sha256="other"),
        record(version="2.0"),
        record(channel="https://conda.anaconda.org/bioconda"),
    ]
    await write(database, build_id, variants)
    assert await counts(database) == [2, 3, 7, 7]


async def test_the_fields_of_a_record_are_kept(database: Database) -> None:
    build_id = await add_build(database)
    full = record(
        license="BSD",
        license_family="BSD",
        summary="arrays",
        depends=["python >=3.11"],
        constrains=["x <2"],
        md5="m" * 32,
        size=2**40,
        timestamp=1_700_000_000_000,
    )
    await write(database, build_id, [full])
    async with database.read() as session:
        package = (await session.scalars(select(CondaPackage))).one()
        file = (await session.scalars(select(CondaPackageBuild))).one()
    assert (package.license, package.license_family, package.summary) == ("BSD", "BSD", "arrays")
    for name in ("depends", "constrains", "md5", "size", "timestamp", "subdir", "build"):
        assert getattr(file, name) == full[name]


async def test_a_record_of_a_lockfile_has_little_in_it(database: Database) -> None:
    build_id = await add_build(database)
    bare = {"channel": "c", "name": "a", "version": "1", "subdir": "noarch", "depends": []}
    await write(database, build_id, [bare, {**bare, "name": "b", "build": None, "sha256": None}])
    assert [name for name, _, _ in await names_of(database, build_id)] == ["a", "b"]


async def test_a_build_may_have_no_packages_at_all(database: Database) -> None:
    await write(database, await add_build(database), [])
    assert await counts(database) == [0, 0, 0, 0]


async def test_a_very_large_environment_is_recorded(database: Database) -> None:
    build_id = await add_build(database)
    await write(database, build_id, [record(f"package-{number}") for number in range(1203)])
    assert await counts(database) == [1, 1203, 1203, 1203]


async def test_a_failure_records_nothing(database: Database) -> None:
    with pytest.raises(KeyError):
        await write(database, await add_build(database), [record("a"), {"channel": "c"}])
    assert await counts(database) == [0, 0, 0, 0]


RECORDS = st.builds(
    record,
    st.sampled_from("ab"),
    st.sampled_from(["1", "2"]),
    channel=st.sampled_from(["x", "y"]),
    subdir=st.sampled_from(["linux-64", "noarch"]),
    sha256=st.sampled_from(["s", "t"]),
)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(RECORDS, max_size=6), min_size=1, max_size=3))
async def test_every_build_has_exactly_its_packages(
    database: Database, batches: list[list[dict[str, Any]]]
) -> None:
    builds = [await add_build(database) for _ in batches]
    for build_id, records in zip(builds, batches, strict=True):
        await write(database, build_id, records)
    for build_id, records in zip(builds, batches, strict=True):
        files = {(r["channel"], r["name"], r["version"], r["subdir"], r["sha256"]) for r in records}
        expected = sorted((name, version, digest) for _, name, version, _, digest in files)
        assert await names_of(database, build_id) == expected
