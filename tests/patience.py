"""How long the tests wait: they may share the machine with others, and with each other."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# For what must come. It costs time only when it does not.
PATIENCE_S = 60.0
TRIES = 5


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
