"""Standard error as the log: whatever becomes of it, the daemon goes on."""

import logging
import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from condastore import correlation
from condastore.daemon_log import DescriptorHandler, write


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        with suppress(OSError):
            os.close(end)


def logs_to(descriptor: int, *, in_journal: bool = False) -> logging.Logger:
    logger = logging.Logger("condastore.tests")
    logger.addHandler(DescriptorHandler(descriptor, in_journal=in_journal))
    return logger


def test_a_line_has_the_ids_of_what_it_belongs_to(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    token = correlation.build_id.set(17)
    logs_to(writing).warning("it failed")
    correlation.build_id.reset(token)
    line = os.read(reading, 1000).decode()
    assert line.endswith(" WARNING condastore.tests: [build 17] it failed\n")


def test_each_line_in_the_journal_has_its_priority(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    logs_to(writing, in_journal=True).error("two\nlines")
    assert os.read(reading, 1000) == b"<3>condastore.tests: two\n<3>    lines\n"


def test_what_a_package_says_is_no_line_of_the_log(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    forged = "2026-11-30 16:00:00,000 WARNING condastore.auth: signed in\x1b[2J\r\x9b\u202e\tend"
    shown = "signed in\\x1b[2J\\r\\x9b\\u202e\tend"
    logger = logs_to(writing)
    logger.warning("it failed: %s", f"last words:\n{forged}")
    first, second, rest = os.read(reading, 1000).decode().split("\n")
    assert first.endswith("it failed: last words:") and rest == ""
    assert second.startswith("    2026-") and second.endswith(shown)
    try:
        raise ValueError(f"last words:\n{forged}")
    except ValueError:
        logger.exception("it failed")
    first, *others = os.read(reading, 2000).decode().splitlines()
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") for line in others)


def test_F101_a_full_pipe_holds_nobody_up(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    logger = logs_to(writing)
    for _ in range(100):
        logger.info("x" * 3000)
    os.set_blocking(reading, False)
    received = b""
    with suppress(BlockingIOError):
        while True:
            received += os.read(reading, 1_000_000)
    lost = 100 - received.count(b"condastore.tests: x")
    assert 0 < lost < 100
    logger.info("there is room")
    assert os.read(reading, 1000).startswith(
        f"({lost} lines before this one could not be written)\n".encode()
    )


def test_F101_a_pipe_without_a_reader_and_a_closed_descriptor(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    logs_to(writing).info("nobody reads this")
    os.close(writing)
    logs_to(writing).info("nor this")
    assert not write(writing, b"nor this")
    full = os.open("/dev/full", os.O_WRONLY)
    assert not write(full, b"nor this")
    os.close(full)
