"""Reading a build's log, wherever it is: waiting, running, or stored."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

from condastore.access import Caller
from condastore.build_rows import arn, find_build, log_key
from condastore.builds import FINAL
from condastore.errors import NotFound
from condastore.service.parts import Parts
from condastore.streams import (
    BuildLog,
    Ended,
    Position,
    Text,
    read_file,
    search_start,
    whole_characters,
)
from condastore.tables import Build

Positions = AsyncIterator[Position]
Watched = AsyncIterator[Position | None]
"""With None now and then while nothing comes."""
# How often it is looked whether a reader's token was revoked.
CHECKED_S = 1.5
# How often it is looked whether a build has ended that another daemon runs, and how often then
# for its log.
POLL_S = 1.0
STORED_POLLS = 15

Again = Callable[[], Awaitable[Caller]]
"""Returns who a reader is now, whose token may have ended or been revoked since he came."""


async def read_log(parts: Parts, caller: Caller, build_id: int, offset: int) -> Positions:
    """Returns what is in a build's log so far, from a byte offset on. Raises `NotFound`."""
    build = await _find(parts, build_id)
    caller.require("environment::read", arn(build))
    if _is_elsewhere(parts, build) and parts.redis is not None:
        return parts.redis.so_far(log_key(build), offset)
    log = parts.logs.live(build_id)
    if log is not None and build.status in FINAL:
        # The row is final a moment before the last lines are in the file.
        await log.flush()
    return await _stored(parts, build, offset)


async def follow_log(parts: Parts, again: Again, build_id: int, offset: int) -> Positions:
    """Returns what is in a build's log from a byte offset on, and what comes, to the build's end.

    Raises `NotFound`; so does reading on with `Unauthorized` when the reader may not any more.
    """
    build = await _find(parts, build_id)
    may_read = arn(build)
    (await again()).require("environment::read", may_read)
    # A build's row is final a moment before its log is; as long as that is open, it counts.
    log = parts.logs.live(build_id)
    if _is_elsewhere(parts, build):
        return _while_allowed(_elsewhere(parts, build, offset), again, may_read)
    if log is None and build.status not in FINAL:
        log = parts.logs.watch(build_id, log_key(build))
        if log is None:
            build = await _find(parts, build_id)
    if log is None:
        return await _stored(parts, build, offset)
    positions = _handed_over(parts, build, log, log.watch(offset), offset)
    return _while_allowed(positions, again, may_read)


async def _handed_over(
    parts: Parts, build: Build, log: BuildLog, positions: Watched, offset: int
) -> Watched:
    """Follows a log of this daemon, and then that of whoever goes on with the build."""
    async for position in positions:
        yield position
        if isinstance(position, Text):
            offset = position.end
    if log.released:
        async for position in _elsewhere(parts, build, offset, is_ours=True):
            yield position


def _is_elsewhere(parts: Parts, build: Build) -> bool:
    """Whether another daemon may be writing the log, and this one is not."""
    open_here = parts.logs.live(build.id) is not None
    return not parts.database.is_sqlite and not open_here and build.status not in FINAL


async def _elsewhere(parts: Parts, build: Build, offset: int, *, is_ours: bool = False) -> Watched:
    """Follows a log that this daemon does not write, or not yet: it may claim the build itself.

    With `is_ours` the offset is one of this daemon's text, and another's comes from its start.
    """
    writer = parts.redis.writer if parts.redis is not None and is_ours else b""
    async for position in _through_redis(parts, build, offset, writer):
        yield position
        if isinstance(position, Ended):
            return
        if isinstance(position, Text):
            is_ours = is_ours and position.offset == offset
            offset = position.end
    # There is no Redis, or it has lost something: what is missing comes from the stored log.
    while (found := await _find(parts, build.id)).status not in FINAL:
        log = parts.logs.live(build.id)
        if log is not None:
            positions = _handed_over(parts, build, log, log.watch(offset), offset)
            async for position in positions:
                yield position
            return
        yield None
        await asyncio.sleep(POLL_S)
    await _until_stored(parts, found)
    if is_ours and not parts.logs.has_ended(log_key(found)):
        offset = 0
    async for position in await _stored(parts, found, offset):
        yield position


async def _through_redis(parts: Parts, build: Build, offset: int, writer: bytes) -> Watched:
    """Yields what comes through Redis; ends early where that has a gap, or its writer died."""
    if parts.redis is None:
        return
    async with aclosing(parts.redis.follow(log_key(build), offset, writer)) as positions:
        async for position in positions:
            yield position
            if position is None and (await _find(parts, build.id)).status in FINAL:
                return


async def _until_stored(parts: Parts, build: Build) -> None:
    """Waits for the log of a build that has ended: its row is final a moment before."""
    key = log_key(build)
    for _ in range(STORED_POLLS):
        if parts.logs.has_ended(key) or await parts.storage.size(key) is not None:
            return
        await asyncio.sleep(POLL_S)


async def _while_allowed(positions: Watched, again: Again, arn: str) -> Positions:
    due = time.monotonic() + CHECKED_S
    async for position in positions:
        if time.monotonic() >= due:
            (await again()).require("environment::read", arn)
            due = time.monotonic() + CHECKED_S
        if position is not None:
            yield position


async def stored_key(parts: Parts, caller: Caller, build_id: int) -> str | None:
    """Returns the storage key of a log that won't grow; None while it can. Raises `NotFound`."""
    build = await _find(parts, build_id)
    caller.require("environment::read", arn(build))
    key = log_key(build)
    is_open = build.status not in FINAL or parts.logs.live(build_id) or await _file(parts, build)
    return None if is_open else key


async def _find(parts: Parts, build_id: int) -> Build:
    async with parts.database.read() as session:
        return await find_build(session, build_id)


async def _file(parts: Parts, build: Build) -> Path | None:
    """Returns the file that has a build's log, if that is not stored yet."""
    key = log_key(build)
    path = parts.logs.file(key)
    if path is None or parts.database.is_sqlite or build.status not in FINAL:
        return path
    if parts.logs.live(build.id) is not None:
        return path
    # It may be what was written here before another daemon took the build over.
    return path if await parts.storage.size(key) is None else None


async def _stored(parts: Parts, build: Build, offset: int) -> Positions:
    key = log_key(build)
    path = await _file(parts, build)
    # Opened before anything is awaited: when the log is stored, this file goes.
    file = path.open("rb") if path else None
    size = os.fstat(file.fileno()).st_size if file else await parts.storage.size(key)
    if size is None and build.status in FINAL:
        raise NotFound(f"build {build.id} has no log")
    offset = min(offset, size or 0)
    start = search_start(offset)
    pieces = read_file(file, start) if file else parts.storage.read(key, start)
    return _positions(pieces if size is not None else _nothing(), build, offset)


async def _positions(pieces: AsyncIterator[bytes], build: Build, offset: int) -> Positions:
    async for text in whole_characters(pieces, offset):
        yield text
    if build.status in FINAL:
        yield Ended(build.status)


async def _nothing() -> AsyncIterator[bytes]:
    for piece in list[bytes]():
        yield piece


async def tail(parts: Parts, caller: Caller, build_id: int, most: int) -> tuple[int, str]:
    """Returns the size of a build's log so far, in bytes, and its last whole lines.

    Raises `NotFound` if the build has ended without a log.
    """
    build = await _find(parts, build_id)
    caller.require("environment::read", arn(build))
    key = log_key(build)
    path = await _file(parts, build)
    size = path.stat().st_size if path else await parts.storage.size(key)
    if size is None:
        return 0, ""
    start = max(size - most, 0)
    text = "".join(
        [
            position.data.decode("utf-8", "replace")
            async for position in await _stored(parts, build, start)
            if isinstance(position, Text)
        ]
    )
    return size, text.partition("\n")[2] if start else text
