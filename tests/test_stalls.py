"""What holds up the event loop is in the log."""

import asyncio
import logging
import time

import pytest

from condastore import stalls
from condastore.stalls import StallWatch
from tests.patience import PATIENCE_S


def takes_its_time() -> None:
    time.sleep(0.5)


async def test_F95_what_holds_up_the_event_loop_is_logged_with_its_stack(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stalls, "BEAT_S", 0.05)
    monkeypatch.setattr(stalls, "QUIET_S", 0.0)
    watching = asyncio.create_task(StallWatch().run())
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_S):
            while "takes_its_time" not in caplog.text:
                await asyncio.sleep(0.01)
                takes_its_time()
    assert "the event loop was held up for 0." in caplog.text
    watching.cancel()


async def test_a_loop_that_waits_is_not_held_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stalls, "BEAT_S", 0.01)
    watching = asyncio.create_task(StallWatch().run())
    with caplog.at_level(logging.WARNING):
        await asyncio.sleep(0.3)
    assert caplog.text == ""
    watching.cancel()
