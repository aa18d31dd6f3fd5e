"""What a build left behind, in the forms that others read."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from condastore import export
from condastore.access import Caller
from condastore.build_rows import arn, find_build
from condastore.builds import ArtifactType, media_type
from condastore.configuration import server_platform
from condastore.errors import CondaStoreError, InvalidInput, NotFound
from condastore.lockfiles import conda_lock, forms
from condastore.lockfiles.forms import MEDIA_TYPES, Form
from condastore.service.parts import Parts
from condastore.specification import CondaSpecification, from_stored
from condastore.tables import Build


@dataclass(frozen=True)
class Document:
    """A text that was made for whoever asked."""

    text: str
    media_type: str
    file_name: str


@dataclass(frozen=True)
class PipPackage:
    """A package that pip installed, and the names of those that it needs."""

    name: str
    version: str
    depends: Sequence[str]
    build: str = ""


async def lockfile(
    parts: Parts, caller: Caller, build_id: int, form: Form, platform: str | None
) -> Document:
    """Returns a build's lockfile in a form, where that is of one platform, for it or the server's.

    Raises `NotFound`, `Unauthorized`, or `InvalidInput` for a platform that it is not for.
    """
    build = await _build(parts, caller, build_id)
    stored = await stored_lockfile(parts, build)
    platform = platform or server_platform()
    text = await asyncio.to_thread(_render, stored, form, platform)
    name = forms.file_name(build.environment.name, form, platform)
    return Document(text, MEDIA_TYPES[form], name)


def _render(stored: bytes, form: Form, platform: str) -> str:
    return forms.render(conda_lock.from_json_text(stored), form, platform)


async def pip_packages(parts: Parts, build: Build) -> list[PipPackage]:
    """Returns what pip installed of a build that the caller may see, as far as that is known."""
    try:
        stored = await stored_lockfile(parts, build)
    except CondaStoreError:
        # It has none, or the storage is away: there is more to be seen of a build.
        return []
    return await asyncio.to_thread(_by_pip, stored, server_platform())


def _by_pip(stored: bytes, platform: str) -> list[PipPackage]:
    return [
        PipPackage(package.name, package.version, list(package.dependencies or ()))
        for package in conda_lock.from_json_text(stored).package
        if package.manager == "pip" and package.platform == platform
    ]


async def versions(parts: Parts, caller: Caller, build_id: int) -> Document:
    """Returns the environment.yaml with the versions of a build. Raises `NotFound`."""
    build = await _build(parts, caller, build_id)
    exported = await _stored(parts, build, ArtifactType.YAML)
    return _yaml(build, await asyncio.to_thread(export.versions_yaml, exported.decode()))


async def history(parts: Parts, caller: Caller, build_id: int) -> Document:
    """Returns the environment.yaml that a build was asked for with.

    Raises `InvalidInput` if that was a lockfile.
    """
    build = await _build(parts, caller, build_id, with_spec=True)
    return _yaml(build, await asyncio.to_thread(export.history_yaml, _asked_for(build)))


def _yaml(build: Build, text: str) -> Document:
    return Document(text, media_type(ArtifactType.YAML), f"{build.environment.name}.yml")


def _asked_for(build: Build) -> CondaSpecification:
    row = build.specification
    specification = from_stored(row.spec, is_lockfile=row.is_lockfile)
    if isinstance(specification, CondaSpecification):
        return specification
    raise InvalidInput(
        f"build {build.id} was made from a lockfile, which does not say what was asked for;"
        " versions and exact can be had"
    )


async def _build(parts: Parts, caller: Caller, build_id: int, *, with_spec: bool = False) -> Build:
    """Returns a build that the caller may see. Raises `NotFound` or `Unauthorized`."""
    async with parts.database.read() as session:
        build = await find_build(session, build_id, with_spec=with_spec)
    caller.require("environment::read", arn(build))
    return build


async def stored_lockfile(parts: Parts, build: Build) -> bytes:
    """Returns the lockfile of a build as it is stored. Raises `NotFound`."""
    return await _stored(parts, build, ArtifactType.LOCKFILE)


async def _stored(parts: Parts, build: Build, artifact: ArtifactType) -> bytes:
    """Returns an artifact of a build. Raises `NotFound`."""
    keys = [row.key for row in build.build_artifacts if row.artifact_type == artifact]
    if not keys:
        raise NotFound(f"build {build.id} has no {artifact.lower()} (its status is {build.status})")
    try:
        return b"".join([chunk async for chunk in parts.storage.read(keys[0])])
    except FileNotFoundError:
        raise NotFound(
            f"the {artifact.lower()} of build {build.id} is not in the storage"
        ) from None
