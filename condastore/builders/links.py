"""Environments' symbolic links, which follow what the database says."""

import asyncio
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from condastore.build_rows import find_build, recorded_prefix
from condastore.database import Database
from condastore.hooks import Hooks, SwitchedEnvironment
from condastore.prefixes import Store
from condastore.tables import Build, Environment


class Links:
    """Switches links one at a time, each to the newest decision, whoever comes last."""

    def __init__(self, database: Database, store: Store, hooks: Hooks) -> None:
        self._database = database
        self._store = store
        self._hooks = hooks
        self._turn = asyncio.Lock()

    async def follow(self, environment_id: int) -> None:
        """Points an environment's link to its current build; without one there is no link.

        Other daemons switch links too. So on PostgreSQL the environment's row is held meanwhile:
        nobody moves the pointer before the link is where it was. A connection that is lost in
        between lets others go ahead, and what it has done is done again by what is current then.
        """
        async with self._turn:
            if self._database.is_sqlite:
                async with self._database.read() as session:
                    switched = await self._switch(session, environment_id)
            else:
                switched = await self._database.insist(
                    lambda session: self._switch(session, environment_id)
                )
        if switched is not None:
            await self._hooks.switched(switched)

    async def _switch(
        self, session: AsyncSession, environment_id: int
    ) -> SwitchedEnvironment | None:
        """Returns where the link points to now; None if there is none."""
        environment = await session.get(
            Environment,
            environment_id,
            options=[joinedload(Environment.namespace)],
            with_for_update={"of": Environment},
        )
        if environment is None:
            return None
        current_id = environment.current_build_id
        build = await find_build(session, current_id) if current_id else None
        link = self._store.environment_link(environment.namespace.name, environment.name)
        prefix = None if build is None else usable_prefix(build)
        if build is None or prefix is None or environment.deleted_on is not None:
            await asyncio.to_thread(self._store.unpublish, link)
            return None
        await asyncio.to_thread(self._store.publish, link, prefix)
        return SwitchedEnvironment(environment.namespace.name, environment.name, build.id, prefix)


def usable_prefix(build: Build) -> Path | None:
    """Returns the prefix that a link may point to; builds of key version 3 have no link."""
    if build.deleted_on is not None or build.build_key_version == 3:
        return None
    return recorded_prefix(build)
