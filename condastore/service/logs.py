"""Reading a build's log, wherever it is: waiting, running, or stored."""

import os
from collections.abc import AsyncIterator

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


async def read_log(
    parts: Parts, caller: Caller, build_id: int, offset: int, *, follow: bool
) -> AsyncIterator[Position]:
    """Returns what is in a build's log from a byte offset on.

    With `follow` it goes on until the build ends, and says with which status. Raises `NotFound`.
    """
    build = await _find(parts, build_id)
    caller.require("environment::read", arn(build))
    if not follow:
        return await _stored(parts, build, offset)
    # A build's row is final a moment before its log is; as long as that is open, it counts.
    log = parts.logs.live(build_id)
    if log is None and build.status not in FINAL:
        log = parts.logs.watch(build_id, log_key(build))
        if log is None:
            build = await _find(parts, build_id)
    return log.follow(offset) if log is not None else await _stored(parts, build, offset)


async def _find(parts: Parts, build_id: int) -> Build:
    async with parts.database.read() as session:
        return await find_build(session, build_id)


async def _stored(parts: Parts, build: Build, offset: int) -> AsyncIterator[Position]:
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


async def _positions(
    pieces: AsyncIterator[bytes], build: Build, offset: int
) -> AsyncIterator[Position]:
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
