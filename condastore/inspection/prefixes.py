"""Builds, their prefixes on the disk, and the links of environments (I1, I2)."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.build_rows import find_build, lose_build, prefix_of, recorded_prefix
from condastore.builds import ArtifactType, BuildStatus, build_id_of
from condastore.errors import BuildError, InvalidInput, NotFound
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene
from condastore.tables import Build, BuildArtifact, Environment, Namespace, build_packages

_VERSION_3 = re.compile("[0-9a-f]{32}")

# So many at once, and most of all, are rather a file system that is not mounted.
MANY_LOST = 3
DOUBTFUL = (
    "nothing, since most builds are without their files: is the file system of "
    "CondaStore.build_directory mounted? If they are really gone, delete these builds"
)
LOST = "its files were lost from the disk; rebuild it"


async def inspect_prefixes(scene: Scene) -> AsyncIterator[Finding]:
    """Yields prefixes that are missing, and those that no build knows."""
    recorded = await _recorded(scene)
    kept = {prefix: number for prefix, (number, is_deleted) in recorded.items() if not is_deleted}
    lost = await asyncio.to_thread(_without_files, kept)
    is_doubtful = len(lost) > MANY_LOST and 2 * len(lost) > len(kept)
    for prefix, build_id in lost.items():
        yield Finding(
            "build without its files",
            f"build {build_id}: {prefix}",
            DOUBTFUL
            if is_doubtful
            else "the build becomes FAILED, and its environment goes to the newest build that is "
            f"whole; to have it again: PUT /api/v1/build/{build_id}/",
            None if is_doubtful else partial(_lose, scene, build_id),
        )
    known = set(recorded) | await _under_way(scene)
    namespaces = await _namespaces(scene)
    for path in await asyncio.to_thread(lambda: list(_found(scene, known, namespaces))):
        yield Finding(
            "files without a build",
            str(path),
            f"moved to {scene.lost}, or to {scene.lost.name} beside it if that is on another file "
            "system; from there it can be taken back",
            partial(asyncio.to_thread, scene.put_away, path),
        )


def _without_files(prefixes: Mapping[Path, int]) -> dict[Path, int]:
    return {path: number for path, number in prefixes.items() if not (path / "conda-meta").is_dir()}


async def inspect_status(scene: Scene) -> AsyncIterator[Finding]:
    """Yields builds whose status and rows contradict each other, and wrong pointers."""
    directory = ArtifactType.DIRECTORY
    has_prefix = Build.build_artifacts.any(artifact_type=directory)
    bare = select(Build.id).where(
        Build.status == BuildStatus.COMPLETED, Build.deleted_on.is_(None), ~has_prefix
    )
    with_whole = select(Build.environment_id).where(
        Build.status == BuildStatus.COMPLETED, Build.deleted_on.is_(None), has_prefix
    )
    wrong = (
        select(Environment.id, Environment.name, Build.id, Build.status)
        .join(Build, Build.id == Environment.current_build_id)
        .where(Environment.deleted_on.is_(None))
        .where((Build.status != BuildStatus.COMPLETED) | Build.deleted_on.is_not(None))
        # The first build is pointed to whatever becomes of it.
        .where(Environment.id.in_(with_whole))
        # Recorded, and about to be COMPLETED: the start of the daemon finishes it.
        .where(~((Build.status == BuildStatus.BUILDING) & has_prefix))
    )
    async with scene.database.read() as session:
        bare_ids = (await session.scalars(bare)).all()
        pointers = (await session.execute(wrong)).all()
    for build_id in bare_ids:
        yield Finding(
            "completed build without a record of its files",
            f"build {build_id}",
            "the build becomes FAILED; to have it again: rebuild it",
            partial(_lose, scene, build_id),
        )
    for environment_id, name, build_id, status in pointers:
        yield Finding(
            "environment whose current build is not whole",
            f"{name}: build {build_id} is {status}",
            "the environment goes to its newest build that is whole",
            partial(_repoint, scene, environment_id),
        )


async def inspect_package_lists(scene: Scene) -> AsyncIterator[Finding]:
    """Yields builds of whose packages some are not recorded."""
    query = (
        select(Build.id, BuildArtifact.key, func.count(build_packages.c.conda_package_build_id))
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .outerjoin(build_packages, build_packages.c.build_id == Build.id)
        .where(BuildArtifact.artifact_type == ArtifactType.DIRECTORY, Build.deleted_on.is_(None))
        .group_by(Build.id, BuildArtifact.key)
    )
    async with scene.database.read() as session:
        rows = (await session.execute(query)).all()
    for build_id, prefix, recorded in rows:
        linked = await asyncio.to_thread(_count_linked, Path(prefix))
        if recorded < linked:
            yield Finding(
                "build of whose packages some are not recorded",
                f"build {build_id}: {recorded} of {linked}",
                "nothing, since its files are whole; build it again to have all of them listed",
            )


def _count_linked(prefix: Path) -> int:
    return sum(1 for _ in (prefix / "conda-meta").glob("*.json"))


async def inspect_links(scene: Scene) -> AsyncIterator[Finding]:
    """Yields links that are missing, wrong, or of no environment."""
    wanted = await _links(scene)
    for link, prefix in wanted.items():
        if await asyncio.to_thread(_target, link) != str(prefix):
            yield Finding(
                "environment link that names the wrong build",
                str(link),
                f"pointed to {prefix}",
                partial(_publish, scene, link, prefix),
            )
    namespaces = await _namespaces(scene)
    for link in await asyncio.to_thread(_found_links, scene, namespaces):
        if link not in wanted:
            yield Finding(
                "link of no environment",
                str(link),
                "removed",
                partial(asyncio.to_thread, scene.store.unpublish, link),
            )


async def _namespaces(scene: Scene) -> set[str]:
    async with scene.database.read() as session:
        return set(await session.scalars(select(Namespace.name)))


async def _recorded(scene: Scene) -> dict[Path, tuple[int, bool]]:
    query = (
        select(BuildArtifact.key, Build.id, Build.deleted_on)
        .join(Build, Build.id == BuildArtifact.build_id)
        .where(BuildArtifact.artifact_type == ArtifactType.DIRECTORY)
    )
    async with scene.database.read() as session:
        rows = (await session.execute(query)).all()
    return {Path(key): (build_id, deleted_on is not None) for key, build_id, deleted_on in rows}


async def _under_way(scene: Scene) -> set[Path]:
    """The prefixes of builds that are being made, which `inspect_queue` speaks of."""
    found = set()
    async with scene.database.read() as session:
        ids = (await session.scalars(select(Build.id).where(Build.status == "BUILDING"))).all()
        for build_id in ids:
            with suppress(BuildError, NotFound):
                found.add(prefix_of(scene.store, await find_build(session, build_id)))
    return found


async def _links(scene: Scene) -> dict[Path, Path]:
    """Returns where each environment's link should be, and to what it should point."""
    query = (
        select(Namespace.name, Environment.name, BuildArtifact.key)
        .join(Environment, Environment.namespace_id == Namespace.id)
        .join(Build, Build.id == Environment.current_build_id)
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .where(
            Environment.deleted_on.is_(None),
            Build.deleted_on.is_(None),
            Build.build_key_version != 3,
            BuildArtifact.artifact_type == ArtifactType.DIRECTORY,
        )
    )
    async with scene.database.read() as session:
        rows = (await session.execute(query)).all()
    return {scene.store.environment_link(space, name): Path(key) for space, name, key in rows}


def _found(scene: Scene, known: set[Path], namespaces: set[str]) -> Iterator[Path]:
    """Yields what lies where prefixes are, and no build knows."""
    root, store = scene.store.prefixes(""), scene.store
    of_links = {store.environment_link(name, "x").parent for name in namespaces}
    for path in _directories(root):
        if _is_named_as_a_build(path):
            if path not in known and (path / "conda-meta").is_dir():
                yield path
        else:
            # A namespace, perhaps one that no row knows any more.
            of_links.add(store.environment_link(path.name, "x").parent)
            namespaces = namespaces | {path.name}
    for parent in sorted({store.prefixes(name) for name in namespaces} - {root}):
        for path in _directories(parent):
            if path not in known and path not in of_links and _is_named_as_a_build(path):
                yield path


def _is_named_as_a_build(path: Path) -> bool:
    """Whether only a build has such a name; what else lies there is somebody else's."""
    try:
        return build_id_of(path.name) is not None or _VERSION_3.fullmatch(path.name) is not None
    except InvalidInput:
        return False


def _directories(parent: Path) -> list[Path]:
    """Returns those that can be entered: a file system's lost+found is nobody's namespace."""
    entries = sorted(parent.iterdir()) if parent.is_dir() else []
    return [
        path
        for path in entries
        if path.is_dir()
        and not path.is_symlink()
        and not path.name.startswith(".")
        and os.access(path, os.R_OK | os.X_OK)
    ]


def _found_links(scene: Scene, namespaces: set[str]) -> list[Path]:
    store = scene.store
    names = namespaces | {path.name for path in _directories(store.prefixes(""))}
    found = []
    for parent in sorted({store.environment_link(name, "x").parent for name in names}):
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            target = _target(path)
            # A directory of links may be one that others use as well.
            if target is not None and Path(target).is_relative_to(store.root):
                found.append(path)
    return found


def _target(link: Path) -> str | None:
    return os.readlink(link) if link.is_symlink() else None


async def _publish(scene: Scene, link: Path, prefix: Path) -> None:
    if await asyncio.to_thread(prefix.is_dir):
        await asyncio.to_thread(scene.store.publish, link, prefix)
    else:
        await asyncio.to_thread(scene.store.unpublish, link)


async def _lose(scene: Scene, build_id: int) -> None:
    async with scene.database.write() as session:
        build = await find_build(session, build_id)
        prefix = recorded_prefix(build)
        lose_build(build, LOST)
        await session.flush()
        environment_id = build.environment_id
    if prefix is not None and await asyncio.to_thread(prefix.is_dir):
        # A part of it may be left.
        await asyncio.to_thread(scene.put_away, prefix)
    await _repoint(scene, environment_id)


async def _repoint(scene: Scene, environment_id: int) -> None:
    """Points an environment to its newest whole build, unless it does point to a whole one.

    Without any it keeps its pointer, as one does whose first build failed, and has no link.
    """
    async with scene.database.write() as session:
        environment = await session.get_one(Environment, environment_id)
        whole = await _whole(session, environment_id)
        if environment.current_build_id in [build_id for build_id, _ in whole]:
            return
        if whole:
            environment.current_build_id = whole[0][0]
        namespace = await session.get_one(Namespace, environment.namespace_id)
        link = scene.store.environment_link(namespace.name, environment.name)
    if whole:
        await asyncio.to_thread(scene.store.publish, link, whole[0][1])
    else:
        await asyncio.to_thread(scene.store.unpublish, link)


async def _whole(session: AsyncSession, environment_id: int) -> list[tuple[int, Path]]:
    query = (
        select(Build.id, BuildArtifact.key)
        .join(BuildArtifact, BuildArtifact.build_id == Build.id)
        .where(
            Build.environment_id == environment_id,
            Build.status == BuildStatus.COMPLETED,
            Build.deleted_on.is_(None),
            BuildArtifact.artifact_type == ArtifactType.DIRECTORY,
        )
        .order_by(Build.id.desc())
    )
    rows = (await session.execute(query)).all()
    return [(build_id, Path(key)) for build_id, key in rows if (Path(key) / "conda-meta").is_dir()]
