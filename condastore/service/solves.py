"""Solving without building (rest-api §4.4)."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, bindparam, cast, func, select

from condastore import environment_yaml
from condastore.access import Caller
from condastore.builds import BuildStatus
from condastore.errors import Unauthorized
from condastore.policy import apply_settings
from condastore.service.parts import Parts
from condastore.setting_rows import load_settings
from condastore.tables import Build, CondaPackageBuild, build_packages
from condastore.views import Statement, View

NAME = "conda-store-solve"
NAMESPACE = "solve"
_LAST_BUILD = Statement(
    select(Build.id, Build.size)
    .where(Build.status == BuildStatus.COMPLETED, Build.deleted_on.is_(None), Build.size > 0)
    .order_by(Build.id.desc())
    .limit(1)
)
_ARCHIVES = Statement(
    # A sum is a decimal number on PostgreSQL.
    select(cast(func.coalesce(func.sum(CondaPackageBuild.size), 0), BigInteger))
    .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
    .where(build_packages.c.build_id == bindparam("build_id"))
)


# How much larger packages are on the disk than in their archives, where no build tells.
USUAL_GROWTH = 3.5


@dataclass(frozen=True)
class Cost:
    """What installing packages would take, in bytes; what the package store has is shared."""

    packages: int
    """Of all archives."""
    download: int
    """Of those that have to be fetched."""
    disk: int
    """On the disk besides what is there: an estimate, as no channel tells it."""


@dataclass(frozen=True)
class SolveRequest:
    """What somebody would like to install."""

    channels: Sequence[str]
    conda: Sequence[str]
    pip: Sequence[str]


async def solve(parts: Parts, caller: Caller, wanted: SolveRequest) -> list[CondaPackageBuild]:
    """Returns what would be installed on this platform; pip packages are left out.

    Raises `InvalidInput` with the solver's explanation, and `Unauthorized` for whoever may solve
    nowhere.
    """
    if not caller.allows_somewhere("environment::solve"):
        raise Unauthorized
    text = json.dumps(
        {
            "name": NAME,
            "channels": list(wanted.channels),
            "dependencies": [*wanted.conda, *([{"pip": list(wanted.pip)}] if wanted.pip else [])],
        }
    )
    limits = environment_yaml.Limits(size_bytes=parts.config.max_specification_bytes)
    specification = await asyncio.to_thread(environment_yaml.parse, text, limits)
    async with parts.database.read() as session:
        settings = await load_settings(session, parts.defaults, NAMESPACE, NAME)
    return await parts.solves.solve(apply_settings(specification, settings), settings)


async def cost(parts: Parts, packages: Sequence[CondaPackageBuild]) -> Cost:
    """Returns what it would take to install what a solve has found."""
    hashes = [package.sha256 for package in packages]
    stored = await asyncio.to_thread(parts.store.stored, hashes)
    download = sum(package.size for package in packages if package.sha256 not in stored)
    growth = await parts.database.view(_growth)
    return Cost(sum(package.size for package in packages), download, round(download * growth))


def _growth(view: View) -> float:
    """Returns how much larger the last build is than its packages' archives."""
    rows = view.rows(_LAST_BUILD, {})
    if not rows:
        return USUAL_GROWTH
    [(build_id, size)] = rows
    [(archives,)] = view.rows(_ARCHIVES, {"build_id": build_id})
    return size / archives if archives else USUAL_GROWTH
