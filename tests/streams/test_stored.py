"""From bytes in any pieces to text in whole characters."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from condastore.streams import Text, read_file, search_start, whole_characters
from condastore.streams.log import character_start, whole_length


async def pieces_of(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    start = 0
    for end in ends:
        yield data[start:end]
        start = end


def collect(data: bytes, offset: int, cuts: list[int]) -> list[Text]:
    async def run() -> list[Text]:
        pieces = pieces_of(data[search_start(offset) :], cuts)
        return [text async for text in whole_characters(pieces, offset)]

    return asyncio.run(run())


def start_of_character(data: bytes, offset: int) -> int:
    while 0 < offset < len(data) and data[offset] & 0xC0 == 0x80:
        offset -= 1
    return min(offset, len(data))


@given(
    text=st.text(st.sampled_from("ab\né€\U0001f40d"), max_size=30),
    offset=st.integers(0, 130),
    cuts=st.lists(st.integers(0, 120), max_size=8),
)
def test_any_split_gives_the_same_text_in_whole_characters(
    text: str, offset: int, cuts: list[int]
) -> None:
    data = text.encode()
    offset = min(offset, len(data))
    found = collect(data, offset, cuts)
    start = start_of_character(data, offset)
    assert b"".join(piece.data for piece in found) == data[start:]
    for piece in found:
        assert piece.offset == start
        piece.data.decode()
        start += len(piece.data)


@given(
    data=st.binary(max_size=60),
    offset=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_bytes_that_are_no_text_come_through_too(data: bytes, offset: int, cuts: list[int]) -> None:
    offset = min(offset, len(data))
    found = collect(data, offset, cuts)
    got = b"".join(piece.data for piece in found)
    assert data.endswith(got)
    assert len(data) - offset <= len(got) <= len(data) - offset + 3 or offset == len(data)


@given(text=st.text(st.sampled_from("aé€\U0001f40d"), min_size=1), cut=st.integers(0, 200))
def test_the_whole_length_is_that_of_the_characters_that_are_complete(text: str, cut: int) -> None:
    data = text.encode()[:cut]
    assert data[: whole_length(data)] == data.decode("utf-8", "ignore").encode()
    for index in range(len(data)):
        assert data[character_start(data, index)] & 0xC0 != 0x80


async def test_a_file_is_read_to_where_it_ends_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"0123456789" * 20_000)
    file = path.open("rb")
    data = b"".join([piece async for piece in read_file(file, 5)])
    assert data == path.read_bytes()[5:]
    assert file.closed
