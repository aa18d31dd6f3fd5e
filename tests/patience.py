"""How long the tests wait: they may share the machine with others, and with each other."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Often at first, for what comes in a moment; then seldom, since looking costs time as well.
FIRST_WAIT_S = 0.02
LONGEST_WAIT_S = 0.1
# For what must come. It costs time only when it does not.
PATIENCE_S = 120.0
TRIES = 5


def pauses(timeout_s: float = PATIENCE_S) -> Iterator[None]:
    """Sleeps between looks at what must come; ends when the time is over."""
    deadline, wait_s = time.monotonic() + timeout_s, FIRST_WAIT_S
    while time.monotonic() < deadline:
        yield
        time.sleep(wait_s)
        wait_s = min(wait_s * 1.2, LONGEST_WAIT_S)


def soon(limit_s: float, most_s: float) -> float:
    """Returns how long what takes at most `limit_s` on an idle machine may take on this one now.

    Never more than `most_s`, which is so little that only what is promised can be that quick.
    """
    waiting = os.getloadavg()[0] / (os.cpu_count() or 1)
    return min(limit_s * max(1.0, waiting), most_s)


def is_quick(attempt: Callable[[], float], limit_s: float, most_s: float) -> bool:
    """Whether one of a few attempts, which return how long they took, is as quick as promised."""
    return any(attempt() < soon(limit_s, most_s) for _ in range(TRIES))


@contextmanager
def processor_time_below(limit_s: float) -> Iterator[None]:
    """Raises if the block has this process compute for longer, however long it has to wait."""
    began = time.process_time()
    yield
    assert time.process_time() - began < limit_s
