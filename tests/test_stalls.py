"""What holds up the event loop is in the log."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from condastore import stalls
from condastore.stalls import StallWatch
from tests.patience import PATIENCE_S


def takes_its_time() -> None:
    time.sleep(0.15)


def computes() -> None:
    until = time.thread_time() + 0.15
    while time.thread_time() < until:
        pass


async def held_up(work: Callable[[], None]) -> None:
    await asyncio.sleep(0)
    work()
    await asyncio.sleep(0)


def watched(work: Coroutine[Any, Any, None]) -> None:
    """Runs it in a loop that is watched, until nobody watches any more."""
    watch = StallWatch()
    with asyncio.Runner(loop_factory=watch.new_loop) as runner, watch:
        runner.run(work)
    watch._thread.join(PATIENCE_S)
    assert not watch._thread.is_alive()


@pytest.mark.parametrize("work", [takes_its_time, computes])
def test_F95_what_holds_up_the_event_loop_once_is_logged_with_its_stack(
    caplog: pytest.LogCaptureFixture, work: Callable[[], None]
) -> None:
    watched(held_up(work))
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the event loop was held up for 0.")
    assert f"in {work.__name__}" in record.getMessage()


def test_F95_what_never_ends_is_told_of_meanwhile(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stalls, "LONG_S", 0.2)
    told = []

    def lasts() -> None:
        until = time.monotonic() + PATIENCE_S
        while not caplog.records and time.monotonic() < until:
            time.sleep(0.01)
        told.extend(caplog.records)

    watched(held_up(lasts))
    assert len(told) == 1


def test_F95_many_stalls_are_told_of_now_and_then(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stalls, "QUIET_S", 1.0)

    async def story() -> None:
        while len(caplog.records) < 2:
            await held_up(takes_its_time)

    watched(asyncio.wait_for(story(), PATIENCE_S))
    assert "times more since the last time) by" in caplog.records[1].getMessage()


def test_a_loop_that_waits_is_not_held_up(caplog: pytest.LogCaptureFixture) -> None:
    watched(asyncio.sleep(4 * stalls.STALL_S))
    assert not caplog.records
    assert "event loop watch" not in {thread.name for thread in threading.enumerate()}
