"""Reading a build's log, wherever it is: waiting, running, or stored."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from condastore.access import Caller
from condastore.build_rows import arn, find_build, log_key
from condastore.builds import FINAL
from condastore.errors import NotFound
from condastore.service.parts import Parts
from condastore.streams import (
    Ended,
    Position,
    Text,
    read_file,
    search_start,
    whole_characters,
)
from condastore.tables import Build

Positions = AsyncIterator[Position]
# How long a reader whose token was revoked may go on.
CHECKED_S = 2.0

Again = Callable[[], Awaitable[Caller]]
"""Returns who a reader is now, whose token may have ended or been revoked since he came."""


async def read_log(parts: Parts, caller: Caller, build_id: int, offset: int) -> Positions:
    """Returns what is in a build's log so far, from a byte offset on. Raises `NotFound`."""
    build = await _find(parts, build_id)
    caller.require("environment::read", arn(build))
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
    if log is None and build.status not in FINAL:
        log = parts.logs.watch(build_id, log_key(build))
        if log is None:
            build = await _find(parts, build_id)
    if log is None:
        return await _stored(parts, build, offset)
    return _while_allowed(log.follow(offset), again, may_read)


async def _while_allowed(positions: Positions, again: Again, arn: str) -> Positions:
    due = time.monotonic() + CHECKED_S
    upcoming = asyncio.ensure_future(anext(positions, None))
    try:
        while True:
            await asyncio.wait([upcoming], timeout=CHECKED_S)
            if time.monotonic() >= due:
                (await again()).require("environment::read", arn)
                due = time.monotonic() + CHECKED_S
            if upcoming.done():
                position = upcoming.result()
                if position is None:
                    return
                yield position
                upcoming = asyncio.ensure_future(anext(positions, None))
    finally:
        upcoming.cancel()


async def stored_key(parts: Parts, caller: Caller, build_id: int) -> str | None:
    """Returns the storage key of a log that won't grow; None while it can. Raises `NotFound`."""
    build = await _find(parts, build_id)
    caller.require("environment::read", arn(build))
    key = log_key(build)
    is_open = build.status not in FINAL or parts.logs.live(build_id) or parts.logs.file(key)
    return None if is_open else key


async def _find(parts: Parts, build_id: int) -> Build:
    async with parts.database.read() as session:
        return await find_build(session, build_id)


async def _stored(parts: Parts, build: Build, offset: int) -> Positions:
    key = log_key(build)
    path = parts.logs.file(key)
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
    path = parts.logs.file(key)
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
