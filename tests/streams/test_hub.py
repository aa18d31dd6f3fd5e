"""Which log is where: open here, in its file, or in the storage."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from condastore.storage import LocalStorage
from condastore.streams import Ended, LogHub, Text
from tests.patience import PATIENCE_S

KEY = "logs/0e4b7b86-1795391714-2-env.log"


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(storage_path=str(tmp_path / "storage"))


@pytest.fixture
def hub(tmp_path: Path, storage: LocalStorage) -> Iterator[LogHub]:
    found = LogHub(tmp_path / "logs", storage, 10_000)
    yield found
    found.close()


async def stored(storage: LocalStorage) -> bytes:
    return b"".join([piece async for piece in storage.read(KEY)])


async def test_a_build_has_one_log(hub: LogHub) -> None:
    log = hub.open(2, KEY)
    assert hub.open(2, KEY) is log
    assert hub.watch(2, KEY) is log
    assert hub.live(2) is log
    assert hub.live(3) is None
    await hub.end(2, KEY, "FAILED")


async def test_an_ended_log_is_in_the_storage_and_nowhere_else(
    hub: LogHub, storage: LocalStorage
) -> None:
    log = hub.open(2, KEY)
    log.append("text\n")
    follower = log.follow(0)
    await hub.end(2, KEY, "COMPLETED")
    assert await stored(storage) == b"text\n"
    assert (hub.live(2), hub.file(KEY), hub.unstored()) == (None, None, [])
    # Whoever was reading reads on.
    assert [p async for p in follower] == [Text(0, b"text\n"), Ended("COMPLETED")]


async def test_a_log_can_be_read_at_every_moment_of_its_end(
    hub: LogHub, storage: LocalStorage
) -> None:
    hub.open(2, KEY).append("text\n")
    ending = asyncio.create_task(hub.end(2, KEY, "COMPLETED"))
    while not ending.done():
        log, file = hub.live(2), hub.file(KEY)
        assert log is not None or file is not None or await storage.size(KEY) == 5
        if log is not None:
            async with asyncio.timeout(PATIENCE_S):
                assert [p async for p in log.follow(0)][-1] == Ended("COMPLETED")
        await asyncio.sleep(0)


async def test_a_log_is_not_opened_again_for_a_reader_who_comes_late(hub: LogHub) -> None:
    hub.open(2, KEY).append("text\n")
    await hub.end(2, KEY, "COMPLETED")
    assert hub.watch(2, KEY) is None
    assert hub.file(KEY) is None


async def test_a_build_that_has_the_id_of_one_that_is_gone_has_a_log(hub: LogHub) -> None:
    hub.open(2, KEY).append("text\n")
    await hub.end(2, KEY, "COMPLETED")
    other = f"{KEY}.other"
    assert hub.watch(2, other) is not None
    await hub.end(2, other, "COMPLETED")


async def test_the_end_of_a_build_that_said_nothing_is_no_error(
    hub: LogHub, storage: LocalStorage
) -> None:
    await hub.end(2, KEY, "CANCELED")
    assert await storage.size(KEY) is None


async def test_a_log_that_can_not_be_stored_stays_and_is_stored_later(
    hub: LogHub, storage: LocalStorage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "storage").write_text("in the way")
    hub.open(2, KEY).append("text\n")
    with caplog.at_level(logging.CRITICAL):
        await hub.end(2, KEY, "COMPLETED")
    assert hub.unstored() == [Path(KEY).name]
    assert hub.live(2) is None
    (tmp_path / "storage").unlink()
    await hub.end(2, KEY, "COMPLETED")
    assert await stored(storage) == b"text\n"
    assert hub.unstored() == []


async def test_detaching_ends_the_readers_and_not_the_logs(hub: LogHub) -> None:
    log = hub.open(2, KEY)
    reading = asyncio.create_task(anext(log.follow(0), None))
    await asyncio.sleep(0.02)
    hub.detach()
    assert await asyncio.wait_for(reading, PATIENCE_S) is None
    assert hub.live(2) is log
    await hub.end(2, KEY, "FAILED")


async def test_the_log_of_a_build_with_a_very_long_name_has_a_file(
    hub: LogHub, storage: LocalStorage
) -> None:
    key = f"logs/0e4b7b86-1795391714-2-{'x' * 255}.log"
    hub.open(2, key).append("text\n")
    await hub.end(2, key, "FAILED")
    assert await storage.size(key) == 5


async def test_a_log_that_is_given_up_ends_its_readers_and_can_be_gone_on_with(
    hub: LogHub, storage: LocalStorage
) -> None:
    log = hub.open(2, KEY)
    log.append("first\n")
    follower = log.follow(0)
    await hub.release(2)
    log.append("too late\n")
    async with asyncio.timeout(PATIENCE_S):
        assert [p for p in [p async for p in follower] if not isinstance(p, Text)] == []
    assert log.released and hub.live(2) is None
    hub.open(2, KEY).append("second\n")
    await hub.end(2, KEY, "COMPLETED")
    await hub.release(2)
    assert await stored(storage) == b"first\nsecond\n"
