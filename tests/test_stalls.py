"""What holds up the event loop is in the log."""

import asyncio
import logging
import threading
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
    before = set(threading.enumerate())
    watching = asyncio.create_task(StallWatch().run())
    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(PATIENCE_S):
            while "in takes_its_time" not in caplog.text:
                await asyncio.sleep(0.01)
                takes_its_time()
    watching.cancel()
    await asyncio.wait([watching])
    for thread in set(threading.enumerate()) - before:
        if thread.name == "event loop watch":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    assert "the event loop was held up for " in caplog.text
    # One that waits for events is not: the machine has other things to do.
    frames = [record.getMessage().strip().splitlines()[-2] for record in caplog.records]
    assert not [frame for frame in frames if frame.endswith("in select")]
