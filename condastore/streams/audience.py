"""Those who wait for more of something: they are woken a few at a time, and not too often."""

import asyncio
from collections.abc import Iterator
from itertools import islice

# Others have the event loop between so many.
_AT_A_TIME = 16
# So long is waited between two times, for each who waits: what comes meanwhile is one piece for
# them, and half of the processor stays free, however many they are.
_PACE_S = 0.00015
# Who waits is woken so often although nothing has come.
IDLE_S = 1.0


class Audience:
    """Many who wait for the same."""

    def __init__(self) -> None:
        self.changes = 0
        """How often something has come."""
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def notify(self) -> None:
        """Lets those who wait know that something has come: now, or soon after the last time."""
        self.changes += 1
        if not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if self._due <= loop.time():
            self._wake()
        elif self._timer is None or self._timer.when() > self._due:
            self._call_at(self._due)

    async def changed(self, seen: int) -> bool:
        """Waits until there were more changes than `seen`; returns False if that takes long."""
        if self.changes == seen:
            loop = asyncio.get_running_loop()
            woken: asyncio.Future[None] = loop.create_future()
            self._waiting.append(woken)
            if self._timer is None:
                self._call_at(loop.time() + IDLE_S)
            await woken
        return self.changes != seen

    def _call_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._wake)

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        self._due = asyncio.get_running_loop().time() + _PACE_S * len(waiting)
        self._wake_some(iter(waiting))

    def _wake_some(self, waiting: Iterator[asyncio.Future[None]]) -> None:
        some = list(islice(waiting, _AT_A_TIME))
        for woken in some:
            if not woken.done():
                woken.set_result(None)
        if len(some) == _AT_A_TIME:
            asyncio.get_running_loop().call_soon(self._wake_some, waiting)
