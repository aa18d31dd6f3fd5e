"""Work that takes its time, so that others on the same disk don't notice it."""

import time

# Short enough to disturb nobody, long enough for a sleep to be about as long as asked for.
TICK_S = 0.05


class Pace:
    """Lets so many steps a second be done; 0 as many as can be."""

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._steps = 0
        self._batch = max(1, round(rate * TICK_S))
        self._due = time.monotonic()

    def step(self) -> None:
        """Is called after each step, and sleeps when too many were done."""
        self._steps += 1
        if not self._rate or self._steps % self._batch:
            return
        # What took longer than it may is not made up for by a burst.
        now = time.monotonic()
        self._due = max(self._due + self._batch / self._rate, now)
        time.sleep(self._due - now)
