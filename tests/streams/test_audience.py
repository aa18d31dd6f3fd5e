"""Many who wait for the same: each is woken, and the event loop is never theirs alone."""

import asyncio

from condastore.streams.audience import Audience
from tests.patience import PATIENCE_S


async def test_who_has_missed_a_change_does_not_wait() -> None:
    audience = Audience()
    audience.notify()
    assert await asyncio.wait_for(audience.changed(0), PATIENCE_S)


async def test_who_waits_is_woken_now_and_then_although_nothing_comes() -> None:
    audience = Audience()
    assert not await asyncio.wait_for(audience.changed(0), PATIENCE_S)


async def test_all_who_wait_are_woken_a_few_at_a_time() -> None:
    audience, woken = Audience(), 0

    async def wait() -> None:
        nonlocal woken
        assert await audience.changed(0)
        woken += 1

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(1000):
            group.create_task(wait())
        await asyncio.sleep(0)
        audience.notify()
        most = 0
        while woken < 1000:
            before = woken
            await asyncio.sleep(0)
            most = max(most, woken - before)
    assert 0 < most < 100


async def test_changes_in_quick_succession_are_one() -> None:
    audience, woken = Audience(), 0

    async def follow() -> None:
        nonlocal woken
        seen = 0
        while seen < 1000:
            seen = audience.changes
            await audience.changed(seen)
            woken += 1

    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(follow())
        for _ in range(1000):
            await asyncio.sleep(0)
            audience.notify()
    assert 100 <= woken < 100 * 1000 / 2


async def test_one_who_leaves_while_he_waits_keeps_nobody_waiting() -> None:
    audience = Audience()
    waiting = [asyncio.create_task(audience.changed(0)) for _ in range(100)]
    await asyncio.sleep(0)
    for leaving in waiting[::2]:
        leaving.cancel()
    audience.notify()
    async with asyncio.timeout(PATIENCE_S):
        assert await asyncio.gather(*waiting[1::2]) == [True] * 50
