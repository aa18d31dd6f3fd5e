"""Environments that come from files: each in `watch_paths` is one (rest-api §13)."""

import asyncio
import logging
import os
import stat
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from watchfiles import awatch

from condastore import environment_yaml
from condastore.access import ADMINISTRATOR
from condastore.duties import Turn, TurnOver
from condastore.errors import CondaStoreError, DiskFull, Unavailable
from condastore.service import specifications
from condastore.service.parts import Parts
from condastore.service.settings import settings_in_force
from condastore.service.specifications import Submission

logger = logging.getLogger(__name__)

# Some file systems tell nobody of changes.
SCAN_S = 60.0
TICK_S = 1.0
# Editors write in several steps.
DEBOUNCE_MS = 500
SUFFIXES = (".yml", ".yaml")
WATCHER = replace(ADMINISTRATOR, actor="watch_paths")


@dataclass(frozen=True)
class Version:
    """What changes when a file does."""

    inode: int
    bytes: int
    modified_ns: int


class Watcher:
    """Builds what files say, and again when they change. One that can't be used is reported."""

    def __init__(self, parts: Parts, paths: Sequence[Path], turn: Turn) -> None:
        self._parts = parts
        self._turn = turn
        self._paths = paths
        self._seen: dict[Path, Version] = {}

    async def run(self) -> None:
        """Watches for ever."""
        while True:
            await self._scan()
            try:
                await self._watch(self._places())
            except OSError as error:
                logger.warning("watch_paths can't be watched: %s", error)
            await asyncio.sleep(TICK_S)

    async def _watch(self, places: set[Path]) -> None:
        """Scans after changes; returns when a place has come or gone, which need a new watch."""
        if not places:
            return
        # What changed before the watch began is seen by the scan after its first tick.
        next_scan = time.monotonic()
        async for changes in awatch(
            *places,
            recursive=False,
            debounce=DEBOUNCE_MS,
            rust_timeout=int(TICK_S * 1000),
            yield_on_timeout=True,
        ):
            if changes or time.monotonic() >= next_scan:
                await self._scan()
                next_scan = time.monotonic() + SCAN_S
            if self._places() != places:
                return

    def _places(self) -> set[Path]:
        """Returns the directories that are watched: of a file, that which it is in."""
        places = {path if path.is_dir() else path.parent for path in self._paths}
        return {place for place in places if place.is_dir()}

    async def _scan(self) -> None:
        try:
            await self.scan()
        except TurnOver:
            raise
        except Exception:
            logger.exception("watch_paths could not be scanned; again in %g s", SCAN_S)

    async def scan(self) -> None:
        """Looks at every file that is new or has changed; a file that is gone changes nothing."""
        versions = await asyncio.to_thread(self._versions)
        self._seen = {path: seen for path, seen in self._seen.items() if path in versions}
        names: dict[str, Path] = {}
        for path in sorted(versions):
            is_new = self._seen.get(path) != versions[path]
            try:
                await self._take(path, names, is_new=is_new)
            except (Unavailable, DiskFull) as error:
                # It is no fault of the file's, and passes without a change of it.
                logger.warning("%s is not built yet: %s", path, error)
                continue
            except (CondaStoreError, OSError, UnicodeDecodeError) as error:
                if is_new:
                    logger.warning("%s is not built: %s", path, error)
            self._seen[path] = versions[path]

    async def _take(self, path: Path, names: dict[str, Path], *, is_new: bool) -> None:
        limit = self._parts.config.max_specification_bytes
        text = (await asyncio.to_thread(_content, path, limit)).decode()
        limits = environment_yaml.Limits(size_bytes=limit)
        name = (await asyncio.to_thread(environment_yaml.parse, text, limits)).name
        if name in names:
            raise CondaStoreError(f"{names[name]} has the name {name} already")
        names[name] = path
        if not is_new:
            return
        settings = await settings_in_force(self._parts)
        submission = Submission(text, settings.filesystem_namespace, unless_built=True)
        build_id = await specifications.submit(self._parts, WATCHER, submission, self._turn)
        if build_id is not None:
            logger.info("%s is build %d", path, build_id)

    def _versions(self) -> dict[Path, Version]:
        """Returns the files there are; what is no regular file is none."""
        found = {}
        for path in self._files():
            try:
                status = path.stat()
            except OSError as error:
                logger.warning("%s can't be read: %s", path, error.strerror)
                continue
            if stat.S_ISREG(status.st_mode):
                found[path] = Version(status.st_ino, status.st_size, status.st_mtime_ns)
        return found

    def _files(self) -> list[Path]:
        found = []
        for path in self._paths:
            if path.is_dir():
                found += [entry for entry in path.iterdir() if entry.suffix in SUFFIXES]
            elif path.exists():
                found.append(path)
        return found


def _content(path: Path, limit: int) -> bytes:
    """Returns a file's bytes. A pipe that came in its place meanwhile must not be waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CondaStoreError("it is no regular file")
        data = file.read(limit + 1)
    if len(data) > limit:
        raise CondaStoreError(f"it is larger than {limit} bytes")
    return data
