"""The rows of the packages that builds consist of."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import contains_eager

from condastore.database import insert_into
from condastore.tables import CondaChannel, CondaPackage, CondaPackageBuild, build_packages

Record = Mapping[str, Any]
# SQLite takes 32,766 variables in a statement.
_ROWS = 500


async def package_rows(session: AsyncSession, records: Sequence[Record]) -> list[CondaPackageBuild]:
    """Returns the rows of packages, made where they are new, with their names and versions."""
    ids = await _file_ids(session, records)
    query = (
        select(CondaPackageBuild)
        .join(CondaPackageBuild.package)
        .options(contains_eager(CondaPackageBuild.package))
        .order_by(CondaPackage.name)
    )
    rows: list[CondaPackageBuild] = []
    for some in _batches(ids):
        rows += await session.scalars(query.where(CondaPackageBuild.id.in_(some)))
    return rows


async def record_packages(session: AsyncSession, build_id: int, records: Sequence[Record]) -> None:
    """Links a build to its packages; channels and packages that are new get their rows."""
    files = await _file_ids(session, records)
    await _insert(
        session,
        build_packages,
        [{"build_id": build_id, "conda_package_build_id": file_id} for file_id in files],
    )


async def _file_ids(session: AsyncSession, records: Sequence[Record]) -> list[int]:
    # Engines write a channel's URL with or without a slash at its end.
    records = [{**record, "channel": record["channel"].rstrip("/")} for record in records]
    channels = await channel_ids(session, {record["channel"] for record in records})
    packages = await _package_ids(session, channels, records)
    return await _package_build_ids(session, channels, packages, records)


async def channel_ids(session: AsyncSession, names: set[str]) -> dict[str, int]:
    """Returns the ids of channels by their URLs; those that are new get their rows."""
    await _insert(session, CondaChannel.__table__, [{"name": name} for name in sorted(names)])
    query = select(CondaChannel.name, CondaChannel.id).where(CondaChannel.name.in_(names))
    return dict((await session.execute(query)).all())


async def _package_ids(
    session: AsyncSession, channels: Mapping[str, int], records: Sequence[Record]
) -> dict[tuple[int, str, str], int]:
    rows = {
        (channels[record["channel"]], record["name"], record["version"]): {
            "license": record.get("license"),
            "license_family": record.get("license_family"),
            "summary": record.get("summary"),
        }
        for record in records
    }
    await _insert(
        session,
        CondaPackage.__table__,
        [
            {"channel_id": channel, "name": name, "version": version, **values}
            for (channel, name, version), values in rows.items()
        ],
    )
    key = tuple_(CondaPackage.channel_id, CondaPackage.name, CondaPackage.version)
    found: dict[tuple[int, str, str], int] = {}
    for keys in _batches(list(rows)):
        query = select(
            CondaPackage.channel_id, CondaPackage.name, CondaPackage.version, CondaPackage.id
        ).where(key.in_(keys))
        found.update({(c, n, v): row_id for c, n, v, row_id in await session.execute(query)})
    return found


async def _package_build_ids(
    session: AsyncSession,
    channels: Mapping[str, int],
    packages: Mapping[tuple[int, str, str], int],
    records: Sequence[Record],
) -> list[int]:
    rows = []
    for record in records:
        channel = channels[record["channel"]]
        rows.append(
            {
                "package_id": packages[channel, record["name"], record["version"]],
                "channel_id": channel,
                "build": record.get("build") or "",
                "build_number": record.get("build_number") or 0,
                "constrains": record.get("constrains") or [],
                "depends": record.get("depends") or [],
                "md5": record.get("md5") or "",
                "sha256": record.get("sha256") or "",
                "size": record.get("size") or 0,
                "subdir": record.get("subdir"),
                "timestamp": record.get("timestamp"),
            }
        )
    await _insert(session, CondaPackageBuild.__table__, rows)
    table = CondaPackageBuild
    key = tuple_(table.package_id, table.subdir, table.build, table.build_number, table.sha256)
    names = ("package_id", "subdir", "build", "build_number", "sha256")
    ids: list[int] = []
    for keys in _batches([tuple(row[name] for name in names) for row in rows]):
        ids += (await session.scalars(select(table.id).where(key.in_(keys)))).all()
    return ids


def _batches(rows: list[Any]) -> Iterable[list[Any]]:
    return (rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS))


async def _insert(session: AsyncSession, table: Any, rows: list[dict[str, Any]]) -> None:
    """Inserts the rows that are not there yet."""
    if rows:
        await session.execute(insert_into(session, table).on_conflict_do_nothing(), rows)
