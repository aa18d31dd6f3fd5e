"""Live logs: every reader gets exactly the bytes, whoever is how fast."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from condastore.streams import BuildLog, Ended, Happened, Position, Text
from condastore.streams.log import BACKLOG_BYTES, CHUNK_BYTES, PHASES_KEPT
from tests.patience import PATIENCE_S

MIB = 1024**2


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture
def log(tmp_path: Path, executor: ThreadPoolExecutor) -> BuildLog:
    return BuildLog(tmp_path / "logs" / "build.log", MIB, executor)


async def read(positions: AsyncIterator[Position]) -> list[Position]:
    return [position async for position in positions]


async def text_of(positions: AsyncIterator[Position], start: int) -> bytes:
    """The text, having checked that it has no gap, no repetition and no half character."""
    data = b""
    async for position in positions:
        if isinstance(position, Text):
            assert position.offset == start + len(data)
            assert position.data
            position.data.decode()
            data += position.data
    return data


# Text


async def test_what_is_appended_is_read_and_then_the_end(log: BuildLog) -> None:
    log.append("one\n")
    log.append("two\n")
    await log.end("COMPLETED")
    assert await read(log.follow(0)) == [Text(0, b"one\ntwo\n"), Ended("COMPLETED")]
    assert log.path.read_text() == "one\ntwo\n"


async def test_a_log_is_released_once_however_often_it_is_asked_for(log: BuildLog) -> None:
    """Otherwise a descriptor that is somebody else's by now would be closed."""
    log.append("one\n")
    reading = asyncio.create_task(read(log.follow(0)))
    await asyncio.gather(log.release(), log.release())
    assert log.released
    with log.path.open("rb") as other:
        await log.release()
        await log.end("COMPLETED")
        assert other.read() == b"one\n"
    async with asyncio.timeout(PATIENCE_S):
        assert Ended("COMPLETED") not in await reading


TEXTS = st.lists(
    st.text(st.sampled_from("ab\n é€\U0001f40d"), max_size=40).map(lambda text: text + "\n"),
    min_size=1,
    max_size=12,
)


async def written(
    log: BuildLog, texts: list[str], pauses: list[int], readers: list[tuple[int, int]]
) -> list[list[Position]]:
    """What each reader gets that comes before the text of its number and begins at its offset."""
    reading = {}

    def come(numbers: range) -> None:
        for index, (number, offset) in enumerate(readers):
            if number in numbers:
                reading[index] = asyncio.create_task(read(log.follow(offset)))

    for number, text in enumerate(texts):
        come(range(number, number + 1))
        log.append(text)
        await asyncio.sleep(pauses[number] * 0.0005)
    come(range(len(texts), 100))
    await asyncio.sleep(0)
    await log.end("FAILED")
    return [await reading[index] for index in range(len(readers))]


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=TEXTS,
    readers=st.lists(st.tuples(st.integers(0, 12), st.integers(-2, 400)), max_size=6),
    pauses=st.lists(st.integers(0, 3), min_size=12, max_size=12),
    chunk=st.integers(4, 40),
)
def test_every_reader_gets_the_rest_from_its_offset_on(
    tmp_path: Path,
    executor: ThreadPoolExecutor,
    texts: list[str],
    readers: list[tuple[int, int]],
    pauses: list[int],
    chunk: int,
) -> None:
    """Whenever it comes, wherever it begins, and whatever is written meanwhile."""
    path = tmp_path / "build.log"
    path.unlink(missing_ok=True)

    async def play() -> list[list[Position]]:
        return await written(BuildLog(path, MIB, executor), texts, pauses, readers)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("condastore.streams.log.CHUNK_BYTES", chunk)
        found = asyncio.run(play())
    whole = "".join(texts).encode()
    assert path.read_bytes() == whole
    for (_, offset), positions in zip(readers, found, strict=True):
        assert positions[-1] == Ended("FAILED")
        assert_is_the_rest(whole, offset, [p for p in positions if isinstance(p, Text)])


def assert_is_the_rest(whole: bytes, offset: int, pieces: list[Text]) -> None:
    start = pieces[0].offset if pieces else len(whole)
    # A reader that comes too early for its offset begins where the log ends then.
    assert start <= max(offset, 0)
    for piece in pieces:
        assert piece.offset == start
        assert piece.data == whole[start : start + len(piece.data)]
        piece.data.decode()
        start += len(piece.data)
    assert start == len(whole)


@pytest.mark.parametrize("offset", range(8))
async def test_an_offset_within_a_character_is_moved_to_its_start(
    log: BuildLog, offset: int
) -> None:
    log.append("é\U0001f40d\n")
    await log.end("COMPLETED")
    start = [0, 0, 2, 2, 2, 2, 6, 7][offset]
    assert await text_of(log.follow(offset), start) == "é\U0001f40d\n".encode()[start:]


async def test_a_chunk_never_ends_within_a_character(log: BuildLog) -> None:
    text = "a" + "€" * CHUNK_BYTES + "\n"
    log.append(text)
    await log.end("COMPLETED")
    assert await text_of(log.follow(0), 0) == text.encode()


async def test_bytes_that_are_no_text_are_passed_on_as_they_are(log: BuildLog) -> None:
    """A disk that was full for a moment leaves half a character; offsets must stay right."""
    log.append("before\n")
    await log.flush()
    with log.path.open("ab") as file:
        file.write(b"\xf0\x9f")
    log.append("after €\n")
    await log.end("COMPLETED")
    whole = b"before\n\xf0\x9fafter \xe2\x82\xac\n"
    assert log.path.read_bytes() == whole
    pieces = [p for p in await read(log.follow(0)) if isinstance(p, Text)]
    assert b"".join(piece.data for piece in pieces) == whole


async def test_control_characters_and_halves_of_characters_are_made_harmless(
    log: BuildLog,
) -> None:
    log.append("a\r\nb\rc\x00d\ud800e\n")
    await log.end("COMPLETED")
    assert log.path.read_text() == "a\nb\ncd?e\n"


# Limits


async def test_a_log_that_is_too_long_says_so_once_and_takes_what_matters(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    log = BuildLog(tmp_path / "build.log", 20, executor)
    log.append("0123456789\n")
    log.append("abcdefgé-and-more\n")
    log.append("nothing of this\n")
    log.append("build failed\n", always=True)
    log.append("nor of this\n")
    await log.end("FAILED")
    assert log.path.read_text() == (
        "0123456789\nabcdefgé\n"
        "[condastore: the log reached its limit of 20 bytes; what came after was left out]\n"
        "build failed\n"
    )


async def test_what_must_be_there_does_not_let_more_in(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    log = BuildLog(tmp_path / "build.log", 20, executor)
    log.append("a line of the daemon's own\n", always=True)
    log.append("and one of a package\n")
    await log.end("FAILED")
    assert "package" not in log.path.read_text()
    assert log.path.read_text().count("left out") == 1


async def test_what_was_said_is_in_the_file_after_a_flush(log: BuildLog) -> None:
    await log.flush()
    for number in range(20):
        log.append(f"line {number}\n")
        await log.flush()
        assert log.path.read_text().endswith(f"line {number}\n")
    await log.end("COMPLETED")


async def test_the_writer_waits_for_a_disk_that_is_far_behind(log: BuildLog) -> None:
    log.append("x" * 100 + "\n")
    await log.drain()
    log.append("y" * (BACKLOG_BYTES // 2) + "\n")
    await asyncio.wait_for(log.drain(), PATIENCE_S)
    await log.end("COMPLETED")


async def test_a_reader_that_never_reads_holds_nothing_up(log: BuildLog) -> None:
    slow = log.follow(0)
    for number in range(200):
        log.append(f"{number:08}\n" * 100)
        await log.drain()
    await asyncio.wait_for(log.end("COMPLETED"), PATIENCE_S)
    assert len(await text_of(slow, 0)) == 200 * 100 * 9


async def test_a_disk_that_is_full_ends_the_log_but_not_the_build(
    log: BuildLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log.append("written\n")
    await log.flush()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr("condastore.streams.log._write_all", full)
        log.append("lost\n")
        await log.flush()
        log.append("lost as well\n")
    await log.end("FAILED")
    assert await read(log.follow(0)) == [Text(0, b"written\n"), Ended("FAILED")]


# Events


async def test_phases_come_in_order_and_of_the_progress_only_the_newest(log: BuildLog) -> None:
    for phase in ("solve", "fetch"):
        log.happened({"event": "phase", "phase": phase})
        for done in range(50):
            log.happened({"event": "progress", "phase": phase, "done": done})
    log.append("text\n")
    await log.end("COMPLETED")
    assert await read(log.follow(0)) == [
        Text(0, b"text\n"),
        Happened({"event": "phase", "phase": "solve"}),
        Happened({"event": "phase", "phase": "fetch"}),
        Happened({"event": "progress", "phase": "fetch", "done": 49}),
        Ended("COMPLETED"),
    ]


async def test_a_new_phase_makes_the_progress_of_the_last_one_void(log: BuildLog) -> None:
    log.happened({"event": "progress", "phase": "solve", "done": 1})
    log.happened({"event": "phase", "phase": "fetch"})
    await log.end("COMPLETED")
    assert await read(log.follow(0)) == [
        Happened({"event": "phase", "phase": "fetch"}),
        Ended("COMPLETED"),
    ]


async def test_the_events_of_a_long_build_do_not_pile_up(log: BuildLog) -> None:
    for number in range(PHASES_KEPT * 2):
        log.happened({"event": "phase", "phase": str(number)})
    await log.end("COMPLETED")
    assert len(await read(log.follow(0))) == PHASES_KEPT + 1


async def test_a_reader_is_woken_by_text_by_events_and_by_the_end(log: BuildLog) -> None:
    positions = log.follow(0)
    async with asyncio.timeout(PATIENCE_S):
        log.append("a\n")
        assert await anext(positions) == Text(0, b"a\n")
        waiting = asyncio.ensure_future(anext(positions))
        await asyncio.sleep(0.01)
        log.happened({"event": "phase", "phase": "link"})
        assert await waiting == Happened({"event": "phase", "phase": "link"})
        waiting = asyncio.ensure_future(anext(positions))
        await asyncio.sleep(0.01)
        await log.end("CANCELED")
        assert await waiting == Ended("CANCELED")
        assert [p async for p in positions] == []


# The end


async def test_a_detached_reader_is_not_told_an_end(log: BuildLog) -> None:
    log.append("a\n")
    reading = asyncio.create_task(read(log.follow(0)))
    await asyncio.sleep(0.05)
    log.detach()
    assert await asyncio.wait_for(reading, PATIENCE_S) == [Text(0, b"a\n")]
    assert await read(log.follow(0)) == []
    await log.end("COMPLETED")


async def test_nothing_is_written_after_the_end(
    log: BuildLog, caplog: pytest.LogCaptureFixture
) -> None:
    """Its descriptor may be another file's by then."""
    log.append("a\n")
    await log.end("COMPLETED")
    other = os.open(log.path.parent / "other", os.O_WRONLY | os.O_CREAT)
    try:
        with caplog.at_level(logging.CRITICAL):
            log.append("too late\n", always=True)
        await asyncio.sleep(0.05)
    finally:
        os.close(other)
    assert (log.path.parent / "other").read_bytes() == b""
    assert log.path.read_bytes() == b"a\n"


async def test_a_log_that_ends_twice_ends_once(log: BuildLog) -> None:
    log.append("a\n")
    await asyncio.gather(log.end("COMPLETED"), log.end("CANCELED"))
    await log.end("FAILED")
    assert (await read(log.follow(0)))[-1] == Ended("COMPLETED")


async def test_a_log_ends_although_whoever_ended_it_was_cancelled(log: BuildLog) -> None:
    log.append("a\n")
    ending = asyncio.create_task(log.end("CANCELED"))
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)
    await asyncio.wait_for(log.end("FAILED"), PATIENCE_S)
    assert await read(log.follow(0)) == [Text(0, b"a\n"), Ended("CANCELED")]


async def test_a_disk_that_fails_at_the_end_does_not_keep_the_readers(
    log: BuildLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    log.append("a\n")
    with caplog.at_level(logging.CRITICAL), monkeypatch.context() as patch:
        patch.setattr("os.fsync", broken)
        await asyncio.wait_for(log.end("FAILED"), PATIENCE_S)
    assert await read(log.follow(0)) == [Text(0, b"a\n"), Ended("FAILED")]


# The next daemon


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b"", ""),
        (b"whole\n", "whole\n"),
        (b"whole\nhalf a li", "whole\nhalf a li\n"),
        (b"whole\nhalf \xe2\x82", "whole\nhalf \n"),
        (b"whole\nall of \xe2\x82\xac", "whole\nall of €\n"),
    ],
)
async def test_the_line_in_which_a_daemon_died_is_ended(
    tmp_path: Path, executor: ThreadPoolExecutor, left: bytes, kept: str
) -> None:
    path = tmp_path / "build.log"
    path.write_bytes(left)
    log = BuildLog(path, MIB, executor)
    log.append("next attempt\n")
    await log.end("COMPLETED")
    assert path.read_text() == kept + "next attempt\n"


async def test_a_full_log_stays_full_after_a_restart(
    tmp_path: Path, executor: ThreadPoolExecutor
) -> None:
    for _ in range(2):
        log = BuildLog(tmp_path / "build.log", 10, executor)
        log.append("0123456789ABC\n")
        await log.end("COMPLETED")
    assert log.path.read_text().count("left out") == 1
