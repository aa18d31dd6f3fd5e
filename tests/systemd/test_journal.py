"""The log in the journal: fields of the native protocol, at a real socket."""

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from condastore import correlation
from condastore.systemd.journal import MESSAGE_CHARACTERS, JournalHandler, is_journal, priority
from tests.patience import PATIENCE_S

logger = logging.getLogger("condastore.tests.journal")


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ears:
        ears.bind(str(tmp_path / "journal"))
        ears.settimeout(PATIENCE_S)
        handler = JournalHandler(str(tmp_path / "journal"))
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        logger.propagate = False
        yield ears
        logger.removeHandler(handler)
        handler.close()


def fields(data: bytes) -> dict[str, str]:
    """Reads a datagram as the journal does."""
    found = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            length = int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest.startswith(b"\n")
            rest = rest[1:]
        found[name.decode()] = value.decode()
        data = rest
    return found


def heard(journal: socket.socket) -> dict[str, str]:
    return fields(journal.recv(1_000_000))


def test_a_line_has_its_ids_and_where_it_comes_from(journal: socket.socket) -> None:
    request = correlation.request_id.set("1a2b3c4d")
    build = correlation.build_id.set(17)
    try:
        logger.warning("%s is not built", "it")
    finally:
        correlation.request_id.reset(request)
        correlation.build_id.reset(build)
    found = heard(journal)
    assert found["MESSAGE"] == "it is not built"
    assert found["PRIORITY"] == "4"
    assert found["CONDASTORE_REQUEST_ID"] == "1a2b3c4d"
    assert found["CONDASTORE_BUILD_ID"] == "17"
    assert found["SYSLOG_IDENTIFIER"] == "condastore"
    assert found["LOGGER"] == logger.name
    assert found["CODE_FILE"] == __file__
    logger.info("nothing in particular")
    assert not any(name.startswith("CONDASTORE_") for name in heard(journal))


def test_a_traceback_is_one_entry(journal: socket.socket) -> None:
    try:
        raise ValueError("A=B\nMESSAGE=forged")
    except ValueError:
        logger.exception("it failed")
    found = heard(journal)
    assert found["PRIORITY"] == "3"
    assert found["MESSAGE"].startswith("it failed\n    Traceback")
    assert found["MESSAGE"].endswith("MESSAGE=forged")


def test_what_is_too_long_is_cut(journal: socket.socket) -> None:
    logger.info("é" * 1_000_000)
    assert heard(journal)["MESSAGE"] == "é" * MESSAGE_CHARACTERS


def test_F101_a_full_journal_holds_nobody_up_and_lost_lines_are_counted(
    journal: socket.socket,
) -> None:
    for _ in range(2000):
        logger.info("x" * 10_000)
    received = 0
    journal.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            journal.recv(1_000_000)
            received += 1
    assert 0 < received < 2000
    logger.info("now there is room")
    found = heard(journal)
    assert found["CONDASTORE_LOST_LINES"] == str(2000 - received)
    logger.info("all is well")
    assert "CONDASTORE_LOST_LINES" not in heard(journal)


def test_arguments_that_do_not_fit_are_said(journal: socket.socket) -> None:
    # pytest has a handler of its own, for which they must fit.
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "%d builds", ("three",), None)
    logger.handlers[0].emit(record)
    assert heard(journal)["MESSAGE"].startswith("'%d builds' can't be written with its arguments")


def test_without_a_journal_there_is_no_handler(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        JournalHandler(str(tmp_path / "nothing"))


def test_whether_standard_error_is_the_journal() -> None:
    reading, writing = os.pipe()
    try:
        status = os.fstat(writing)
        stream = f"{status.st_dev}:{status.st_ino}"
        assert is_journal({"JOURNAL_STREAM": stream}, writing)
        assert not is_journal({"JOURNAL_STREAM": stream + "0"}, writing)
        assert not is_journal({}, writing)
    finally:
        os.close(reading)
        os.close(writing)
    assert not is_journal({"JOURNAL_STREAM": stream}, writing)


@pytest.mark.parametrize(
    ("level", "number"), [(10, 7), (20, 6), (30, 4), (35, 4), (40, 3), (50, 2)]
)
def test_priorities(level: int, number: int) -> None:
    assert priority(level) == number
