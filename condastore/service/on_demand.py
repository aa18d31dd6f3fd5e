"""Images on demand: who names one by what is in it has it built, and shares it with all who ask.

One set of packages is one environment, in whatever order they are named. `latest` is solved anew
after a while, `before-YYYY-MM-DD` never: it sees the channels as they were when that day began.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, timedelta

from msgspec import structs
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from condastore.access import ADMINISTRATOR
from condastore.artifact_rows import UNDER_WAY
from condastore.audit import Action, record
from condastore.builds import FINAL, BuildStatus
from condastore.channels import channel_urls, split_match_spec
from condastore.configuration import server_platform
from condastore.dynamic_images import environment_name, parse_cutoff
from condastore.errors import InvalidInput, InvalidSpecification, RegistryError
from condastore.image_configuration import ContainerRegistry
from condastore.matchspecs import check_match_spec
from condastore.names import Name
from condastore.policy import apply_settings
from condastore.service.parts import Parts
from condastore.service.registry import LATEST, find_build_id
from condastore.service.repositories import BUILD, Repository
from condastore.service.space import check_action
from condastore.service.specifications import (
    find_or_make_namespace,
    hooked,
    queue_specification,
)
from condastore.setting_rows import load_settings
from condastore.specification import CondaSpecification
from condastore.tables import Build, Environment, Namespace, Task, age

_SUGGESTED = 3
ASKED_BY = "on_demand_for"
"""In the payload of a build's task: for whom it was queued."""


@dataclass(frozen=True)
class _Wanted:
    """What a tag of a repository asks for."""

    tag: str
    name: Name
    """Of the environment."""
    cutoff: date | None


class OnDemand:
    """Finds builds for names that say what is in them, and queues those that are missing."""

    def __init__(self, parts: Parts, config: ContainerRegistry) -> None:
        self._parts = parts
        self._config = config

    def tags(self, allowed: Collection[str], tags: list[str]) -> list[str]:
        """Returns the tags of a repository, with that which is made when it is pulled."""
        return sorted({*tags, LATEST}) if BUILD in allowed else tags

    async def build_id(
        self, who: str, allowed: Collection[str], repository: Repository, tag: str
    ) -> int | None:
        """Returns the build that a tag means, which may be queued for it; None if there is none.

        Raises `RegistryError` for what can't be built, or not now.
        """
        try:
            cutoff = parse_cutoff(tag)
        except InvalidInput as error:
            raise RegistryError("MANIFEST_UNKNOWN", str(error)) from None
        if BUILD not in allowed or (tag != LATEST and cutoff is None):
            return await find_build_id(self._parts, repository, tag)
        wanted = _Wanted(tag, environment_name(repository.specs, cutoff), cutoff)
        specification = await self._specification(repository, wanted)
        async with self._parts.database.read() as session:
            build = await self._usable(session, repository, wanted, specification)
        if build is not None:
            return build
        return await self._queue(who, repository, wanted, specification)

    async def _specification(self, repository: Repository, wanted: _Wanted) -> CondaSpecification:
        """Returns what is to be built: the operator's hook and settings count as ever."""
        namespace = Name(repository.namespace)
        specification = CondaSpecification(
            name=wanted.name,
            dependencies=repository.specs,
            description=", ".join(repository.specs),
        )
        try:
            specification = await hooked(self._parts, namespace, specification)
            async with self._parts.database.read() as session:
                defaults = self._parts.defaults
                settings = await load_settings(session, defaults, namespace, wanted.name)
            specification = apply_settings(specification, settings)
        except InvalidSpecification as error:
            raise RegistryError("MANIFEST_UNKNOWN", str(error)) from None
        cutoff = None if wanted.cutoff is None else wanted.cutoff.isoformat()
        return structs.replace(specification, name=wanted.name, exclude_newer=cutoff)

    async def _usable(
        self,
        session: AsyncSession,
        repository: Repository,
        wanted: _Wanted,
        specification: CondaSpecification,
    ) -> int | None:
        """Returns the build that need not be made again: done, under way, or just failed."""
        query = (
            select(Build)
            .join(Environment, Environment.id == Build.environment_id)
            .join(Namespace, Namespace.id == Environment.namespace_id)
            .where(Namespace.name == repository.namespace, Environment.name == wanted.name)
            .where(Environment.deleted_on.is_(None), Build.deleted_on.is_(None))
            .options(joinedload(Build.specification))
            .order_by(Build.id.desc())
            .limit(1)
        )
        build: Build | None = await session.scalar(query)
        if build is None or build.specification.sha256 != specification.sha256:
            return None
        if build.status not in FINAL:
            return build.id
        if build.status == BuildStatus.COMPLETED:
            ever = wanted.cutoff is not None
            limit_s = self._config.on_demand_lifetime
            return build.id if ever or _age(build) < timedelta(seconds=limit_s) else None
        if _age(build) > timedelta(seconds=self._config.retry_failed_after):
            return None
        # What could not be solved anew is better than nothing as it was.
        return await find_build_id(self._parts, repository, wanted.tag) or build.id

    async def _queue(
        self,
        who: str,
        repository: Repository,
        wanted: _Wanted,
        specification: CondaSpecification,
    ) -> int:
        namespace = Name(repository.namespace)
        await check_action(self._parts, namespace, "environment:create")
        await self._check_names(namespace, wanted, specification)
        async with self._parts.database.write() as session:
            caller = replace(ADMINISTRATOR, actor=f"{who} (image on demand)")
            # Another daemon that does the same holds the namespace's row until it has committed.
            namespace_id = await find_or_make_namespace(session, caller, namespace)
            lock = select(Namespace.id).where(Namespace.id == namespace_id).with_for_update()
            await session.execute(lock)
            found = await self._usable(session, repository, wanted, specification)
            if found is not None:
                return found
            await self._check_turn(session, who, namespace)
            build = await queue_specification(
                self._parts, session, caller, namespace, specification, {ASKED_BY: who}
            )
            place = namespace, specification.name
            record(session, caller, Action.BUILD_QUEUE, *place, build_id=build.id)
        self._parts.pool.wake()
        return build.id

    async def _check_names(
        self, namespace: Name, wanted: _Wanted, specification: CondaSpecification
    ) -> None:
        """Raises `RegistryError` for a package that no channel has, as far as that is known."""
        async with self._parts.database.read() as session:
            defaults = self._parts.defaults
            settings = await load_settings(session, defaults, namespace, wanted.name)
        specs = specification.match_specs
        channels = channel_urls(specification.channels, specs, settings.conda_channel_alias)
        platforms = {server_platform(), *settings.conda_solve_platforms}
        if not self._parts.indexer.covers(channels, platforms):
            return
        # A channel in front may be one that others don't have; it is the solver's to say.
        names = {check_match_spec(text) for text in specs if split_match_spec(text).channel is None}
        unknown = await self._parts.index.unknown(channels, names)
        if unknown:
            found = "; ".join(_unknown(name, unknown[name]) for name in sorted(unknown))
            raise RegistryError("NAME_UNKNOWN", f"{found} (channels: {', '.join(channels)})")

    async def _check_turn(self, session: AsyncSession, who: str, namespace: Name) -> None:
        """Raises `RegistryError` if somebody has as much under way as he may have."""
        query = select(Task.payload).where(
            Task.kind == "build", Task.namespace == namespace, Task.state.in_(UNDER_WAY)
        )
        mine = [found for found in await session.scalars(query) if found.get(ASKED_BY) == who]
        if len(mine) >= self._config.max_on_demand_builds:
            raise RegistryError(
                "TOOMANYREQUESTS",
                f"{len(mine)} images on demand are being built for {who}; pull again when one of "
                "them is done",
            )


def _age(build: Build) -> timedelta:
    return age(build.ended_on or build.scheduled_on)


def _unknown(name: str, similar: list[str]) -> str:
    text = f"there is no package {name}"
    return f"{text}; did you mean {' or '.join(similar[:_SUGGESTED])}?" if similar else text
