"""What the daemon does on signals: SIGTERM and Ctrl-C drain it, SIGHUP reads its configuration."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable


class Signals:
    """What signals have asked for."""

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self._reload = asyncio.Event()
        self._has_terminal = _is_terminal()

    def handle(self) -> None:
        """Handles them from now on."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stopping.set)
        loop.add_signal_handler(signal.SIGINT, self._interrupted)
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)

    async def when_to_reload(self, reload: Callable[[], Awaitable[None]]) -> None:
        """Calls `reload` when it is asked for, one time after the other, for ever."""
        while True:
            await self._reload.wait()
            self._reload.clear()
            await reload()

    def _interrupted(self) -> None:
        """The first Ctrl-C drains, the second ends at once; children die with the daemon."""
        if self.stopping.is_set():
            os._exit(130)
        self.stopping.set()

    def _hung_up(self) -> None:
        """Who closes the terminal does not mean the configuration."""
        if self._has_terminal and not _is_terminal():
            self.stopping.set()
        else:
            self._reload.set()


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
