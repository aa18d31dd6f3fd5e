"""The package store against what its packages say of their files, and builds against the store.

Only `condastore check --hashes` does it, since it reads every file (F30, F31).
"""

import asyncio
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import select

from condastore.builders.jobs import verify_job
from condastore.builders.process import Event, Listener, engine
from condastore.builds import ArtifactType
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene
from condastore.tables import (
    Build,
    BuildArtifact,
    CondaPackage,
    CondaPackageBuild,
    Environment,
    Namespace,
    build_packages,
)

# SQLite takes 32,766 variables in a statement.
_ROWS = 500


@dataclass(frozen=True)
class _Use:
    """A build that rests on a package."""

    sha256: str
    package: str
    build_id: int
    environment: str
    prefix: Path


async def inspect_packages(scene: Scene, listener: Listener) -> list[Finding]:
    """Returns what is damaged or gone; `listener` hears how far the hashing is."""
    damaged: list[Event] = []

    async def listen(event: Event) -> None:
        if event["t"] == "damaged":
            damaged.append(event)
        else:
            await listener(event)

    async with engine(scene.store.scratch) as child:
        await child.do(verify_job(scene.store, []), listen)
    uses = await _uses(scene, [event["sha256"] for event in damaged])
    findings = []
    for event in damaged:
        resting = [use for use in uses if use.sha256 == event["sha256"]]
        findings.append(_damaged(scene, event))
        findings += await asyncio.to_thread(_environments, scene, event, resting)
    return findings + await _gone(scene)


def _damaged(scene: Scene, event: Event) -> Finding:
    return Finding(
        "damaged package",
        f"{event['name']} ({event['sha256']}): {_files(event)}",
        f"moved to {scene.lost}, so that the next build that needs it fetches it anew",
        partial(asyncio.to_thread, _put_away, scene, event["sha256"]),
    )


def _files(event: Event) -> str:
    told = ", ".join(f"{file['path']} {file['problem']}" for file in event["files"])
    more = event["count"] - len(event["files"])
    return f"{told} and {more} more" if more else told


def _environments(scene: Scene, event: Event, uses: Iterable[_Use]) -> list[Finding]:
    """Returns those that have a damaged file themselves, since it is the same by a hard link."""
    root = scene.store.packages / "store" / event["sha256"]
    findings = []
    for use in uses:
        shared = [file["path"] for file in event["files"] if _is_shared(root / file["path"], use)]
        if shared:
            findings.append(
                Finding(
                    "environment with a damaged file",
                    f"{use.environment}: build {use.build_id} shares {', '.join(shared)} of "
                    f"{use.package} ({use.prefix})",
                    "when the package has been moved away, build the environment again: PUT "
                    f"/api/v1/build/{use.build_id}/; then delete this build",
                )
            )
    return findings


def _is_shared(file: Path, use: _Use) -> bool:
    """Whether a file of a package is also one of a prefix, wherever it is there."""
    try:
        status = file.lstat()
        record = json.loads((use.prefix / "conda-meta" / f"{use.package}.json").read_bytes())
        paths = [path for path in record["files"] if os.path.basename(path) == file.name]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return any(_is(use.prefix / path, status) for path in paths)


def _is(path: Path, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(path.lstat(), status)
    except OSError:
        return False


def _put_away(scene: Scene, sha256: str) -> None:
    packages = scene.store.packages
    package = packages / "store" / sha256
    if package.is_dir():
        scene.put_away(package)
    package.with_name(f"{sha256}.durable").unlink(missing_ok=True)
    # What was compiled of it may be of the damaged file.
    for path in sorted(packages.glob(f"bytecode/{sha256}-*")):
        scene.discard(path)


async def _gone(scene: Scene) -> list[Finding]:
    """Returns the packages that builds rest on and the store has lost, which breaks nothing."""
    query = (
        select(CondaPackageBuild.sha256)
        .distinct()
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .join(Build, Build.id == build_packages.c.build_id)
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .where(Build.deleted_on.is_(None), BuildArtifact.artifact_type == ArtifactType.DIRECTORY)
    )
    async with scene.database.read() as session:
        hashes = set(await session.scalars(query)) - {""}
    lost = sorted(hashes - await asyncio.to_thread(scene.store.stored, hashes))
    found: dict[str, list[_Use]] = {}
    for use in await _uses(scene, lost):
        found.setdefault(f"{use.package} ({use.sha256})", []).append(use)
    return [
        Finding(
            "package that is gone from the store",
            f"{package}: " + ", ".join(f"build {use.build_id} ({use.environment})" for use in uses),
            "these builds have its files, so nothing is broken; the next build that needs it "
            "fetches it again, and then shares no files of it with them",
            is_problem=False,
        )
        for package, uses in sorted(found.items())
    ]


async def _uses(scene: Scene, hashes: Sequence[str]) -> list[_Use]:
    query = (
        select(
            CondaPackageBuild.sha256,
            CondaPackage.name,
            CondaPackage.version,
            CondaPackageBuild.build,
            Build.id,
            Namespace.name,
            Environment.name,
            BuildArtifact.key,
        )
        .join(CondaPackage, CondaPackage.id == CondaPackageBuild.package_id)
        .join(build_packages, build_packages.c.conda_package_build_id == CondaPackageBuild.id)
        .join(Build, Build.id == build_packages.c.build_id)
        .join(Environment, Environment.id == Build.environment_id)
        .join(Namespace, Namespace.id == Environment.namespace_id)
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .where(Build.deleted_on.is_(None), BuildArtifact.artifact_type == ArtifactType.DIRECTORY)
        .order_by(Build.id)
    )
    uses = []
    for start in range(0, len(hashes), _ROWS):
        some = query.where(CondaPackageBuild.sha256.in_(hashes[start : start + _ROWS]))
        async with scene.database.read() as session:
            rows = (await session.execute(some)).all()
        for sha256, name, version, build, build_id, namespace, environment, prefix in rows:
            package = f"{name.lower()}-{version}-{build}"
            of = f"{namespace}/{environment}"
            uses.append(_Use(sha256, package, build_id, of, Path(prefix)))
    return uses
