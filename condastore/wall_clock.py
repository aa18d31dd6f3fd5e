"""The wall clock, which can be set: what is removed for its age must really be old.

A clock that is put forward for a moment, by a hand or a wrong time server, would otherwise take
with it what nobody gets back when it is right again.
"""

import logging
import time

logger = logging.getLogger(__name__)

# Leap seconds and what keeps a clock right do less between two looks, which come all the time.
STEP_S = 60.0
BELIEVED_S = 24 * 3600.0


class WallClock:
    """The wall clock beside the time since the machine booted, which nobody sets."""

    def __init__(self) -> None:
        self._booted = time.time() - _since_boot()
        self._put_forward: float | None = None

    def is_settled(self) -> bool:
        """Whether it is believed: it was not put forward, or that was a day ago."""
        now = _since_boot()
        booted = time.time() - now
        ahead_s = booted - self._booted
        if ahead_s > STEP_S:
            if self._put_forward is None:
                self._put_forward = now
                logger.warning(
                    "the clock was put forward by %.0f s: nothing is removed for its age until "
                    "that is a day ago, or undone",
                    ahead_s,
                )
            if now - self._put_forward < BELIEVED_S:
                return False
        self._booted, self._put_forward = booted, None
        return True


def _since_boot() -> float:
    """Returns seconds that count while the machine sleeps as well."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


wall_clock = WallClock()
