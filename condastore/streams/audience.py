"""Those who wait for more of something: they are woken a few at a time, and not too often."""

import asyncio
from collections.abc import Iterator
from itertools import islice

# Others have the event loop between so many.
_AT_A_TIME = 64
# When all were woken nobody is for half as long as that took, but not for longer than this: what
# comes meanwhile is one piece for them, and a third of the processor stays free.
_LONGEST_REST_S = 0.05
# Who waits is woken so often although nothing has come.
IDLE_S = 1.0


class Audience:
    """Many who wait for the same."""

    def __init__(self) -> None:
        self.changes = 0
        """How often something has come."""
        self._waiting: list[asyncio.Future[bool]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._woken_for = 0
        self._is_waking = False
        self._due = 0.0

    def notify(self) -> None:
        """Lets those who wait know that something has come: now, or soon after the last time."""
        self.changes += 1
        if not self._waiting or self._is_waking:
            return
        if self._due <= asyncio.get_running_loop().time():
            self._wake()
        elif self._timer is None or self._timer.when() > self._due:
            self._call_at(self._due)

    async def changed(self, seen: int) -> bool:
        """Waits until there were more changes than `seen`; returns False if that takes long."""
        while self.changes == seen:
            loop = asyncio.get_running_loop()
            woken: asyncio.Future[bool] = loop.create_future()
            self._waiting.append(woken)
            if self._timer is None and not self._is_waking:
                self._call_at(loop.time() + IDLE_S)
            if await woken:
                break
        return self.changes != seen

    def _call_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(when, self._wake)

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        nothing_came = self.changes == self._woken_for
        self._is_waking, self._woken_for = True, self.changes
        waiting, self._waiting = self._waiting, []
        self._wake_some(iter(waiting), nothing_came, asyncio.get_running_loop().time())

    def _wake_some(
        self, waiting: Iterator[asyncio.Future[bool]], nothing_came: bool, began: float
    ) -> None:
        loop = asyncio.get_running_loop()
        some = list(islice(waiting, _AT_A_TIME))
        for woken in some:
            if not woken.done():
                woken.set_result(nothing_came)
        if some:
            # Those have their turn before this.
            loop.call_soon(self._wake_some, waiting, nothing_came, began)
            return
        self._is_waking = False
        took_s = loop.time() - began
        self._due = loop.time() + min(took_s / 2, _LONGEST_REST_S)
        if self._waiting:
            has_news = self.changes != self._woken_for
            self._call_at(self._due if has_news else loop.time() + IDLE_S)
