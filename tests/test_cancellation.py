"""Work that must not be left half done."""

import asyncio

import pytest

from condastore.cancellation import uninterrupted


async def test_uninterrupted_work_ends_before_the_cancellation_goes_on() -> None:
    ended = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        ended.append("work")

    caller = asyncio.create_task(uninterrupted(work()))
    for _ in range(3):
        await asyncio.sleep(0.005)
        caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended == ["work"]


async def test_uninterrupted_work_returns_and_raises_as_it_is() -> None:
    async def value(fails: bool) -> int:
        await asyncio.sleep(0)
        if fails:
            raise ZeroDivisionError
        return 7

    assert await uninterrupted(value(False)) == 7
    with pytest.raises(ZeroDivisionError):
        await uninterrupted(value(True))
