"""What is to be built, read once at the start of a build."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from condastore.build_rows import key_of, log_key, prefix_of
from condastore.prefixes import Store
from condastore.setting_rows import load_settings
from condastore.settings import Settings
from condastore.specification import Specification, from_stored
from condastore.tables import Build


@dataclass(frozen=True)
class Plan:
    """A build's specification, its settings, and the places of what it makes."""

    build_id: int
    key: str
    log_key: str
    namespace: str
    environment: str
    environment_id: int
    specification: Specification
    sha256: str
    """Of the specification."""
    settings: Settings
    prefix: Path


async def plan_of(session: AsyncSession, store: Store, defaults: Settings, build: Build) -> Plan:
    """Returns the plan of a build that `find_build` returned, with what it is made of.

    Raises `BuildError` if its prefix would be too long.
    """
    namespace, environment = build.environment.namespace.name, build.environment.name
    stored = build.specification
    # That of a large lockfile takes as long as the event loop may be held.
    specification = await asyncio.to_thread(
        from_stored, stored.spec, is_lockfile=stored.is_lockfile
    )
    return Plan(
        build_id=build.id,
        key=key_of(build),
        log_key=log_key(build),
        namespace=namespace,
        environment=environment,
        environment_id=build.environment_id,
        specification=specification,
        sha256=stored.sha256,
        settings=await load_settings(session, defaults, namespace, environment),
        prefix=prefix_of(store, build),
    )
