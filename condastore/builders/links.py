"""Environments' symbolic links, which follow what the database says."""

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from condastore.build_rows import find_build, recorded_prefix
from condastore.cancellation import uninterrupted
from condastore.database import Database
from condastore.faults import fault
from condastore.files import PUBLIC, make_directory
from condastore.hooks import Hooks, SwitchedEnvironment
from condastore.locks import alone_with
from condastore.prefixes import Store
from condastore.tables import Build, Environment

logger = logging.getLogger(__name__)

# So long who can't wait for ever waits for a daemon that holds the lock of a link.
LINK_WAIT_S = 5.0


@dataclass(frozen=True)
class _Decision:
    """Where an environment's link points to; None if there is to be no link."""

    link: Path
    target: SwitchedEnvironment | None


class Links:
    """Switches links one at a time, each to the newest decision, whoever comes last."""

    def __init__(self, database: Database, store: Store, hooks: Hooks) -> None:
        self._database = database
        self._store = store
        self._hooks = hooks

    async def follow(self, environment_id: int, wait_s: float | None = None) -> None:
        """Points an environment's link to its current build; without one there is no link.

        Raises `TimeoutError` if another daemon switches one for longer than that, as one that is
        stopped does; otherwise it is waited for.

        What is current is asked while nobody else, here or in another daemon, switches a link
        beside it. The kernel keeps that lock for a daemon that is stopped between the question
        and the switch, and so that switch comes before every later one, however late it comes.
        """
        found = await self._decided(environment_id)
        if found is None:
            return
        lock = await asyncio.to_thread(self._lock_of, found)
        if lock is None:
            return
        async with alone_with(lock, wait_s):
            found = await self._decided(environment_id)
            if found is None:
                return
            fault("build.link_decided")
            await uninterrupted(asyncio.to_thread(self._switch, found))
        if found.target is not None:
            await self._hooks.switched(found.target)

    async def correct(self, environment_id: int, wait_s: float | None = None) -> None:
        """Does the same, unless the link is right already."""
        found = await self._decided(environment_id)
        if found is not None and not await asyncio.to_thread(_is_right, found):
            await self.follow(environment_id, wait_s)

    async def _decided(self, environment_id: int) -> _Decision | None:
        """Returns what the database says now; None of an environment that is gone.

        It is asked several questions, so it must answer them of one state.
        """
        return await self._database.insist(
            lambda session: self._decide(session, environment_id), writes=False
        )

    async def _decide(self, session: AsyncSession, environment_id: int) -> _Decision | None:
        environment = await session.get(
            Environment, environment_id, options=[joinedload(Environment.namespace)]
        )
        if environment is None:
            return None
        current_id = environment.current_build_id
        build = await find_build(session, current_id) if current_id else None
        namespace, name = environment.namespace.name, environment.name
        prefix = None if build is None else usable_prefix(build)
        target = None
        if build is not None and prefix is not None and environment.deleted_on is None:
            target = SwitchedEnvironment(namespace, name, build.id, prefix)
        return _Decision(self._store.environment_link(namespace, name), target)

    def _lock_of(self, decision: _Decision) -> Path | None:
        """Makes the directory of a link that is to be; without one there is nothing to lock."""
        directory = decision.link.parent
        if decision.target is not None:
            make_directory(directory, PUBLIC)
        return self._store.link_lock(decision.link) if directory.is_dir() else None

    def _switch(self, decision: _Decision) -> None:
        if decision.target is None:
            self._store.unpublish(decision.link)
        elif decision.target.prefix.is_dir():
            self._store.publish(decision.link, decision.target.prefix)
        else:
            logger.error("%s is gone; %s stays as it is", decision.target.prefix, decision.link)


def _is_right(decision: _Decision) -> bool:
    target = os.readlink(decision.link) if decision.link.is_symlink() else None
    return target == (None if decision.target is None else str(decision.target.prefix))


def usable_prefix(build: Build) -> Path | None:
    """Returns the prefix that a link may point to; builds of key version 3 have no link."""
    if build.deleted_on is not None or build.build_key_version == 3:
        return None
    return recorded_prefix(build)
