"""How often somebody may try to sign in, in bounded memory."""

import time
from collections import OrderedDict

# An address may be that of a whole office.
USER_ATTEMPTS = 5
ADDRESS_ATTEMPTS = 50
FIRST_WAIT_S = 2.0
LONGEST_WAIT_S = 300.0
REMEMBERED = 10_000


class Attempts:
    """Counts failures by what they have in common: a user's name, or an address."""

    def __init__(self, free: int) -> None:
        self._free = free
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """Returns the seconds until another attempt is allowed; 0 if it is now."""
        now = time.monotonic()
        return max(0.0, self._failures.get(key, (0, now))[1] - now)

    def failed(self, key: str) -> None:
        """Counts a failure; each beyond the free ones doubles the wait."""
        count = self._failures.pop(key, (0, 0.0))[0] + 1
        wait_s = 0.0
        if count >= self._free:
            wait_s = min(FIRST_WAIT_S * 2 ** min(count - self._free, 20), LONGEST_WAIT_S)
        self._failures[key] = (count, time.monotonic() + wait_s)
        if len(self._failures) > REMEMBERED:
            self._failures.popitem(last=False)

    def succeeded(self, key: str) -> None:
        """Forgets the failures."""
        self._failures.pop(key, None)
