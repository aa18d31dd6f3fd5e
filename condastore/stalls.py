"""Says by what the event loop is held up, while it is (F95).

A thread waits for the beats of the loop. When one is late, it has the stack of the loop's thread
logged: what it does at that moment. What holds it up for a second is always seen, what takes less
now and then.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback

logger = logging.getLogger(__name__)

BEAT_S = 1.0
STALL_S = 0.1
# A daemon that is held up all the time must not fill its log with that.
QUIET_S = 60.0


class StallWatch:
    """Watches the event loop of the thread that makes it."""

    def __init__(self) -> None:
        self._watched = threading.get_ident()
        self._beat = threading.Event()
        self._is_over = False

    async def run(self) -> None:
        """Beats until it is cancelled."""
        threading.Thread(target=self._watch, name="event loop watch", daemon=True).start()
        try:
            while True:
                self._beat.set()
                await asyncio.sleep(BEAT_S)
        finally:
            self._is_over = True
            self._beat.set()

    def _watch(self) -> None:
        quiet_until = 0.0
        while not self._is_over:
            if not self._beat.wait(BEAT_S + STALL_S) and time.monotonic() >= quiet_until:
                stack = self._stack()
                began = time.monotonic()
                self._beat.wait()
                took_s = STALL_S + time.monotonic() - began
                # One that waits for events is not held up: the machine has other things to do.
                if stack and stack[-1].name != "select":
                    text = "".join(stack.format())
                    logger.warning("the event loop was held up for %.1f s by\n%s", took_s, text)
                    quiet_until = time.monotonic() + QUIET_S
            self._beat.wait()
            self._beat.clear()

    def _stack(self) -> traceback.StackSummary:
        frame = sys._current_frames().get(self._watched)
        return traceback.extract_stack(frame) if frame else traceback.StackSummary()
