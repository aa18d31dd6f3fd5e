"""Says by what the event loop is held up, while it is (F95).

The loop waits for its events in a selector, which notes when it has gone to work on some. A thread
looks whether it comes back. While nothing happens, neither of them does anything.
"""

import asyncio
import logging
import selectors
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType

logger = logging.getLogger(__name__)

STALL_S = 0.1
# Of what still lasts then it is said that it does: perhaps it never ends.
LONG_S = 5.0
# A daemon that is held up all the time must not fill its log with that.
QUIET_S = 60.0
_LOOK_S = 0.01


class StallWatch:
    """Watches an event loop within its `with` block."""

    def __init__(self) -> None:
        self._selector = _Selector()
        self._is_over = False
        self._quiet_until = 0.0
        self._untold = 0

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """Returns the event loop that is watched."""
        return asyncio.SelectorEventLoop(self._selector)

    def __enter__(self) -> None:
        """Watches from now on, for stalls of this thread."""
        watched = threading.current_thread()
        self._thread = threading.Thread(
            target=self._watch, args=(watched,), name="event loop watch", daemon=True
        )
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends with what the thread is at, which takes no longer than a stall."""
        self._is_over = True
        self._selector.at_work.set()

    def _watch(self, watched: threading.Thread) -> None:
        while not self._is_over:
            self._selector.at_work.clear()
            since = self._selector.at_work_since
            if since is None:
                self._selector.at_work.wait()
                continue
            waited_before_s = _waited_for_processor_s(watched)
            time.sleep(max(0.0, since + STALL_S - time.monotonic()))
            if self._selector.at_work_since == since:
                self._follow(watched, since, waited_before_s)

    def _follow(self, watched: threading.Thread, since: float, waited_before_s: float) -> None:
        """Says what a thread is at that has been at work since then, when that ends."""
        stack, held_s = None, 0.0
        while self._selector.at_work_since == since and held_s < LONG_S and not self._is_over:
            # One that waits for a processor is not held up: the machine has other things to do.
            waited_s = _waited_for_processor_s(watched) - waited_before_s
            held_s = time.monotonic() - since - waited_s
            if held_s >= STALL_S and stack is None:
                stack = _stack(watched)
            time.sleep(_LOOK_S)
        if stack is not None:
            self._tell(held_s, stack)
        while self._selector.at_work_since == since and not self._is_over:
            time.sleep(_LOOK_S)

    def _tell(self, held_s: float, stack: str) -> None:
        now = time.monotonic()
        if now < self._quiet_until:
            self._untold += 1
            return
        before = f" ({self._untold} times more since the last time)" if self._untold else ""
        logger.warning("the event loop was held up for %.1f s%s by\n%s", held_s, before, stack)
        self._quiet_until, self._untold = now + QUIET_S, 0


class _Selector(selectors.DefaultSelector):
    """Tells since when, by the monotonic clock, an event loop is at work; None while it waits."""

    def __init__(self) -> None:
        super().__init__()
        self.at_work = threading.Event()
        self.at_work_since: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns what has happened, as any selector."""
        self.at_work_since = None
        try:
            return super().select(timeout)
        finally:
            self.at_work_since = time.monotonic()
            if not self.at_work.is_set():
                self.at_work.set()


def _waited_for_processor_s(thread: threading.Thread) -> float:
    """Returns how long a thread has waited for a processor in all, where the kernel counts that.

    Source: Linux, Documentation/scheduler/sched-stats.rst.
    """
    with suppress(OSError):
        counts = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
        return int(counts[1]) / 1e9
    return 0.0


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""
