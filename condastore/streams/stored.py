"""Logs that don't grow: from bytes in any pieces to text in whole characters."""

import asyncio
from collections.abc import AsyncIterator
from typing import BinaryIO

from condastore.streams.log import CHUNK_BYTES, MAX_REST, Text, character_start, whole_length


def search_start(offset: int) -> int:
    """Returns from where to read so that the character at `offset` can be found whole."""
    return max(offset - MAX_REST, 0)


async def read_file(file: BinaryIO, start: int) -> AsyncIterator[bytes]:
    """Yields a file's bytes from `start` to where it ends now, and closes it."""
    with file:
        await asyncio.to_thread(file.seek, start)
        while data := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield data


async def whole_characters(pieces: AsyncIterator[bytes], offset: int) -> AsyncIterator[Text]:
    """Yields text from `offset` on; `pieces` begin at `search_start(offset)`.

    An offset inside a character is moved back to its first byte.
    """
    position = search_start(offset)
    rest = b""
    aligned = offset == position
    async for piece in pieces:
        data = rest + piece
        if not aligned:
            if len(data) <= offset - position:
                rest = data
                continue
            skipped = character_start(data, offset - position)
            data, position, aligned = data[skipped:], position + skipped, True
        end = whole_length(data)
        if end:
            yield Text(position, data[:end])
        rest, position = data[end:], position + end
    if rest and aligned:
        yield Text(position, rest)
