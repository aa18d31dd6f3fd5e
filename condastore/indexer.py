"""Keeps the package index fresh, in the background: a job of the engine at a time, niced.

Nothing of it must survive: what a crash interrupts is done at the next start.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from condastore.builders.jobs import connections
from condastore.builders.process import Event, engine
from condastore.cancellation import uninterrupted
from condastore.channels import SUBDIRS, check_channel, resolve
from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.errors import BuildError, InvalidInput
from condastore.package_index import PackageIndex
from condastore.packages import channel_ids
from condastore.prefixes import Store
from condastore.setting_rows import load_settings
from condastore.settings import Settings
from condastore.tables import CondaChannel, utcnow

logger = logging.getLogger(__name__)

# What changes these is to be looked at.
SETTINGS = frozenset({"conda_indexed_channels", "conda_platforms", "conda_channel_alias"})
# A channel that fails is tried again after this time, then twice as long, and so on.
RETRY_S = 60.0
LONGEST_RETRY_S = 3600.0
# The largest channel takes minutes on a slow line; one that never ends must not keep the others.
JOB_S = 1800.0
# Of a column of the database.
URL_CHARACTERS = 255
DOWNLOAD_BYTES = 1024**3
DOCUMENT_BYTES = 8 * 1024**3
RECORDS = 10_000_000
MIRRORED = {"https://conda.anaconda.org/main": "https://repo.anaconda.com/pkgs/main"}
"""Where a channel is fetched from that is elsewhere than its name says (rest-api §7)."""


@dataclass
class ChannelState:
    """How a channel of the index does."""

    due: float = 0.0
    """When it is looked at again, by the monotonic clock."""
    failures: int = 0
    """How often it has failed since it last did not."""
    reason: str | None = None
    refreshed: datetime | None = None
    current: bool = False
    """Whether this daemon has brought the index up to date with it."""
    records: int = 0


class Indexer:
    """Looks for changes of the indexed channels, one after the other."""

    def __init__(
        self,
        config: CondaStore,
        defaults: Settings,
        database: Database,
        store: Store,
        index: PackageIndex,
        interval_s: float,
    ) -> None:
        self._config = config
        self._defaults = defaults
        self._database = database
        self._store = store
        self._index = index
        self._interval_s = interval_s
        self._changed = asyncio.Event()
        self._subdirs: list[str] = []
        self._refused: set[str] = set()
        self._ids: dict[str, int] = {}
        self.channels: dict[str, ChannelState] = {}

    def covers(self, channels: Iterable[str], platforms: Iterable[str]) -> bool:
        """Whether all that some channels have for some platforms is in the index."""
        states = [self.channels.get(url) for url in channels]
        current = all(state is not None and state.current for state in states)
        return current and set(platforms) <= set(self._subdirs)

    def look(self) -> None:
        """Looks at the settings again, soon."""
        self._changed.set()

    async def ids(self, urls: set[str]) -> Mapping[str, int]:
        """Returns the ids of channels."""
        if not urls <= self._ids.keys():
            async with self._database.write() as session:
                self._ids |= await channel_ids(session, urls)
        return self._ids

    async def run(self) -> None:
        """Keeps the index fresh for ever; with an interval of 0 it never looks."""
        while self._interval_s:
            self._changed.clear()
            try:
                await self._look()
                pause = self._pause()
            except Exception:
                pause = min(self._interval_s, RETRY_S)
                logger.exception("the package index is not looked after; again in %g s", pause)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    def _pause(self) -> float:
        dues = [state.due for state in self.channels.values()]
        return max(0.0, min(dues, default=time.monotonic() + self._interval_s) - time.monotonic())

    async def _look(self) -> None:
        async with self._database.read() as session:
            settings = await load_settings(session, self._defaults)
        await self._follow(settings)
        # Those that can't be reached take longest, and go last.
        for url in sorted(self.channels, key=lambda url: (self.channels[url].failures, url)):
            if self.channels[url].due <= time.monotonic():
                await self._unless_changed(self._refresh(url, self.channels[url]))
            if self._changed.is_set():
                return

    async def _unless_changed(self, work: Coroutine[Any, Any, None]) -> None:
        """Does something, but not to its end when the settings have changed meanwhile."""
        working = asyncio.create_task(work, name="package index job")
        changing = asyncio.create_task(self._changed.wait(), name="settings of the package index")
        try:
            await asyncio.wait({working, changing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changing.cancel()
            working.cancel()
            await uninterrupted(asyncio.wait({working}))
        if not working.cancelled():
            working.result()

    async def _follow(self, settings: Settings) -> None:
        """Makes the settings' channels those that are looked at; others leave the index."""
        wanted = self._wanted(settings)
        subdirs = [name for name in settings.conda_platforms if name in SUBDIRS]
        subdirs = sorted({*subdirs, "noarch"})
        indexed = await self._index.channels()
        known = {url: state for url, state in self.channels.items() if url in wanted}
        new = [url for url in wanted if url not in known]
        self.channels = known | await self._states(new, indexed)
        if subdirs != self._subdirs:
            self._subdirs = subdirs
            for state in self.channels.values():
                state.due, state.current = 0.0, False
        if indexed.keys() - self.channels.keys():
            await self._do(self._job(None))
            logger.info("the package index has only %d channels now", len(self.channels))

    def _wanted(self, settings: Settings) -> list[str]:
        urls: dict[str, None] = {}
        for channel in settings.conda_indexed_channels:
            try:
                check_channel(channel)
                found = resolve(channel, settings.conda_channel_alias)
                if any(len(url) > URL_CHARACTERS for url in found):
                    raise InvalidInput(f"its URL is longer than {URL_CHARACTERS} characters")
                urls |= dict.fromkeys(found)
            except InvalidInput as error:
                if channel not in self._refused:
                    self._refused.add(channel)
                    logger.warning("a channel of conda_indexed_channels is left out: %s", error)
        return list(urls)

    async def _states(self, urls: list[str], indexed: Mapping[str, int]) -> dict[str, ChannelState]:
        if not urls:
            return {}
        await self.ids(set(urls))
        query = select(CondaChannel.name, CondaChannel.last_update)
        async with self._database.read() as session:
            rows = await session.execute(query.where(CondaChannel.name.in_(urls)))
            refreshed = dict(rows.all())
        return {
            url: ChannelState(refreshed=refreshed.get(url), records=indexed.get(url, 0))
            for url in urls
        }

    async def _refresh(self, url: str, state: ChannelState) -> None:
        try:
            result = await self._do(self._job(url))
        except (BuildError, OSError) as error:
            self._failed(url, state, str(error))
            return
        except TimeoutError:
            self._failed(url, state, f"it took longer than {JOB_S:g} s")
            return
        if state.failures:
            logger.info("channel %s can be indexed again", url)
        if result["changed"]:
            logger.info("channel %s is indexed: %d records", url, result["records"])
        if result["example"]:
            logger.warning(
                "channel %s is not indexed whole: %d records are left out; %s",
                url,
                result["left_out"],
                result["example"],
            )
        state.failures, state.reason, state.refreshed = 0, None, utcnow()
        state.records, state.current = result["records"], True
        state.due = time.monotonic() + self._interval_s
        async with self._database.write() as session:
            await session.execute(
                update(CondaChannel)
                .where(CondaChannel.name == url)
                .values(last_update=state.refreshed)
            )

    def _failed(self, url: str, state: ChannelState, reason: str) -> None:
        delay = min(self._interval_s, RETRY_S) * 2.0 ** min(state.failures, 30)
        delay = min(delay, max(self._interval_s, LONGEST_RETRY_S))
        state.failures += 1
        state.reason = reason
        state.due = time.monotonic() + delay
        # One warning is enough, until it has worked again.
        level = logging.WARNING if state.failures == 1 else logging.DEBUG
        logger.log(
            level,
            "channel %s can't be indexed, and will be tried again (what was indexed of it before "
            "can still be searched): %s",
            url,
            reason,
        )

    def _job(self, url: str | None) -> dict[str, Any]:
        return {
            "v": 1,
            "job": "index",
            "index": str(self._index.path),
            "channels": sorted(self.channels),
            "refresh": url,
            "source": url and MIRRORED.get(url, url),
            "subdirs": self._subdirs,
            **connections(self._config),
            "limits": {
                "memory_bytes": self._config.max_build_memory,
                "download_bytes": DOWNLOAD_BYTES,
                "document_bytes": DOCUMENT_BYTES,
                "records": RECORDS,
            },
        }

    async def _do(self, job: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(JOB_S), engine(self._store.scratch) as child:
            return await child.do(job, _listen)


async def _listen(event: Event) -> None:
    if event["t"] == "log":
        logger.debug("index job: %s", event["text"])
