"""What an image is made of: the packages in a build's lockfile, and the variables it sets."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from condastore import layers
from condastore.build_rows import find_build, key_of, log_key
from condastore.builders.archives import packable_prefix
from condastore.builds import ArtifactType
from condastore.configuration import server_platform
from condastore.database import Database
from condastore.lockfiles.conda_lock import Lockfile, from_json_text
from condastore.lockfiles.records import Record, locked_for
from condastore.manifests import platform_of
from condastore.oci import canonical
from condastore.specification import CondaSpecification, from_stored
from condastore.storage import Storage
from condastore.tables import Build, CondaPackage, CondaPackageBuild, build_packages


@dataclass(frozen=True)
class Contents:
    """The packages of a build's environment, by platform; the server's is the first."""

    build_id: int
    build_key: str
    log_key: str
    namespace: str
    prefix: Path
    variables: dict[str, str]
    packages: dict[str, list[Record]]
    pip: dict[str, list[Record]]
    lockfile_key: str | None

    @property
    def lock_hash(self) -> str:
        """A hash of the packages, whichever lockfile names them."""
        rows = [
            [platform, manager, record["name"], record["version"], _hash(record)]
            for manager, found in (("conda", self.packages), ("pip", self.pip))
            for platform, records in found.items()
            for record in records
        ]
        return hashlib.sha256(canonical(sorted(rows))).hexdigest()

    def image_key(self, settings: Mapping[str, Any]) -> str:
        """A hash of all that the image depends on; the settings are those of images."""
        content = {
            "format": layers.FORMAT,
            "lock": self.lock_hash,
            "urls": {
                platform: sorted(layers.public_url(record) for record in records)
                for platform, records in self.packages.items()
            },
            "variables": self.variables,
            "settings": settings,
        }
        return hashlib.sha256(canonical(content)).hexdigest()


async def contents_of(database: Database, storage: Storage, build_id: int) -> Contents:
    """Returns what the image of a build is made of. Raises `GiveUp` if there is no such image."""
    async with database.read() as session:
        build = await find_build(session, build_id)
        prefix = packable_prefix(build)
    locked, key = await _lockfile(storage, build)
    here = server_platform()
    if locked is None:
        async with database.read() as session:
            rows = await _package_rows(session, build_id)
        packages: dict[str, list[Record]] = {here: [_record(row) for row in rows]}
        pip: dict[str, list[Record]] = {}
    else:
        packages, pip = _by_platform(locked, here)
    specification = from_stored(
        build.specification.spec, is_lockfile=build.specification.is_lockfile
    )
    variables: Mapping[str, Any] = {}
    if isinstance(specification, CondaSpecification):
        variables = specification.variables or {}
    return Contents(
        build_id=build.id,
        build_key=key_of(build),
        log_key=log_key(build),
        namespace=build.environment.namespace.name,
        prefix=prefix,
        variables={name: str(value) for name, value in variables.items()},
        packages=packages,
        pip=pip,
        lockfile_key=key,
    )


async def package_sizes(database: Database, build_id: int) -> dict[str, int]:
    """Returns the bytes of a build's packages by their names."""
    query = (
        select(CondaPackage.name, CondaPackageBuild.size)
        .join(CondaPackageBuild, CondaPackageBuild.package_id == CondaPackage.id)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .where(build_packages.c.build_id == build_id)
    )
    async with database.read() as session:
        return dict((await session.execute(query)).tuples().all())


async def _lockfile(storage: Storage, build: Build) -> tuple[Lockfile | None, str | None]:
    for artifact in build.build_artifacts:
        if artifact.artifact_type == ArtifactType.LOCKFILE:
            try:
                data = b"".join([piece async for piece in storage.read(artifact.key)])
            except FileNotFoundError:
                break
            return await asyncio.to_thread(from_json_text, data), artifact.key
    return None, None


def _by_platform(
    locked: Lockfile, here: str
) -> tuple[dict[str, list[Record]], dict[str, list[Record]]]:
    """Returns the packages of each platform that images can be for."""
    named = sorted({package.platform for package in locked.package} - {here})
    packages: dict[str, list[Record]] = {}
    pip: dict[str, list[Record]] = {}
    for platform in [here, *named]:
        if platform_of(platform) is not None:
            found = locked_for(locked, platform)
            packages[platform] = sorted(found.records, key=lambda record: str(record["name"]))
            if found.pip:
                pip[platform] = sorted(found.pip, key=lambda record: str(record["name"]))
    return packages, pip


async def _package_rows(session: AsyncSession, build_id: int) -> Sequence[CondaPackageBuild]:
    query = (
        select(CondaPackageBuild)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .where(build_packages.c.build_id == build_id)
        .options(joinedload(CondaPackageBuild.package).joinedload(CondaPackage.channel))
    )
    return (await session.scalars(query)).all()


def _record(row: CondaPackageBuild) -> Record:
    """Returns a record of what is known of an installed package when there is no lockfile."""
    channel = row.package.channel.name
    fn = f"{row.package.name}-{row.package.version}-{row.build}.conda"
    subdir = row.subdir or "noarch"
    return {
        "name": row.package.name,
        "version": row.package.version,
        "build": row.build,
        "subdir": subdir,
        "channel": channel,
        "url": f"{channel}/{subdir}/{fn}",
        "fn": fn,
        "depends": row.depends,
        "sha256": row.sha256 or None,
        "md5": row.md5 or None,
    }


def _hash(record: Record) -> str:
    if "hash" in record:
        return str(record["hash"].get("sha256") or record["hash"].get("md5"))
    return layers.package_hash(record)
