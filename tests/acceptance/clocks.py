"""A wall clock that a test sets while a daemon runs: libfaketime, which the daemon's libc asks."""

import os
import time
from pathlib import Path

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
DAY_S = 24 * 3600.0


class Clock:
    """How far the wall clock of daemons with this environment is ahead; no other clock is touched.

    The files of a daemon keep their true times, as those that were there before a clock is set.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.put(0)

    def put(self, ahead_s: float) -> None:
        """Sets it, at once and for all."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+.0f}\n")
        os.rename(new, self._file)

    def put_at(self, moment: float) -> None:
        """Sets it to a moment, in seconds since 1970."""
        self.put(moment - time.time())

    @property
    def environment(self) -> dict[str, str]:
        """What a daemon is started with."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            # Summer time ends in it on the last Sunday of October, at one by UTC.
            "TZ": "CET-1CEST,M3.5.0,M10.5.0/3",
        }
