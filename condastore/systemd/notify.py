"""Telling systemd how the daemon is (sd_notify): datagrams of lines such as `READY=1`."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

logger = logging.getLogger(__name__)

# A status that changes all the time is told no more often than this.
STATUS_S = 3.0
# For the end of HTTP connections, and what must be written at last.
STOP_GRACE_S = 30
# Of the time in which systemd wants to hear of the daemon.
FED_TIMES = 3


class Notifier:
    """Sends messages to whoever started the daemon, if he listens; never waits and never fails."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environment)
        """Seconds in which systemd wants to hear that all is well; None if it does not."""
        self._socket: socket.socket | None = None
        if self._address[:1] in ("/", "@"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return self._socket is not None

    def tell(self, **values: str | int) -> bool:
        """Sends one message; returns whether it could be sent."""
        if self._socket is None:
            return False
        lines = "\n".join(f"{name}={value}" for name, value in values.items())
        # A leading @ stands for the NUL of an abstract address.
        address = "\0" + self._address[1:] if self._address[0] == "@" else self._address
        try:
            self._socket.sendto(lines.encode(), address)
        except OSError:
            return False
        return True

    def reloading(self) -> None:
        """Says that the configuration is read again; `READY=1` ends it (Type=notify-reload)."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell(RELOADING=1, MONOTONIC_USEC=now_us)

    def stopping(self, status: str, drain_s: float) -> None:
        """Says that the daemon stops, and how long it may take beside `TimeoutStopSec=`."""
        extension_us = int((drain_s + STOP_GRACE_S) * 1_000_000)
        self.tell(STOPPING=1, STATUS=status, EXTEND_TIMEOUT_USEC=extension_us)

    async def tell_status(self, status: Callable[[], Awaitable[str]]) -> None:
        """Tells what `status` returns whenever it is another, for ever, also after it failed."""
        told = ""
        while self.is_heard:
            try:
                text = await status()
            except Exception:
                # Nothing that is only told may end the daemon.
                logger.exception("what the daemon does can't be told")
                text = told
            if text != told and self.tell(STATUS=text):
                told = text
            await asyncio.sleep(STATUS_S)

    async def feed_watchdog(self, watched: Sequence["asyncio.Task[None]"]) -> None:
        """Says that all is well as long as it is.

        An event loop that is held up does not come to it, and it ends with the first of the
        watched tasks.
        """
        while self.watchdog_s and not any(task.done() for task in watched):
            self.tell(WATCHDOG=1)
            # It holds nobody up who waits for all of the daemon to end.
            await asyncio.wait(
                watched,
                timeout=self.watchdog_s / FED_TIMES,
                return_when=asyncio.FIRST_COMPLETED,
            )

    def close(self) -> None:
        """Ends it."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    microseconds = environment.get("WATCHDOG_USEC", "")
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() else None
