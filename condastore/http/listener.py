"""The socket that requests come in by: how many connections there may be, and what then happens."""

import errno
import logging
import resource
import socket
from collections.abc import Callable
from typing import Any

from hypercorn.config import Config, Sockets

logger = logging.getLogger(__name__)

# The kernel keeps as many until they are accepted; it has a limit of its own (somaxconn).
BACKLOG = 4096
# So many are accepted before the event loop turns to something else.
_AT_A_TIME = 64
# For the database, logs, and children's pipes.
RESERVED_FILES = 512


def raise_file_limit() -> int:
    """Lets this process open as many files as it may; returns how many that are."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


class Listener(socket.socket):
    """A listening socket that accepts only so many connections at once.

    Others wait in its backlog until one of those ends. So however many connections there are, the
    files that builds need can still be opened.
    """

    most = 0
    """The most connections; 0 until it is known."""
    open = 0
    _is_told = False

    def listen(self, backlog: int = BACKLOG) -> None:
        """Begins to listen. asyncio does it again with what is the most to accept at a time."""
        super().listen(max(backlog, BACKLOG))

    def limit(self, wanted: int) -> None:
        """Sets the most connections, as far as files for them can be opened."""
        files = raise_file_limit()
        self.most = min(wanted, max(files - RESERVED_FILES, files // 2))
        if self.most < wanted:
            logger.info("at most %d connections: the limit of open files is %d", self.most, files)

    def accept(self) -> tuple[socket.socket, Any]:
        """Returns a connection. With too many it fails; asyncio tries again in a second."""
        if self.open >= self.most:
            # It asks several times in a row, and would note each failure; "none" ends that.
            self._is_told = not self._is_told
            if not self._is_told:
                raise BlockingIOError
            raise OSError(errno.EMFILE, f"{self.most} connections are open, and no more may be")
        self._is_told = False
        accepted, address = super().accept()
        connection = _Connection(fileno=accepted.detach())
        connection.on_end = self._ended
        self.open += 1
        return connection, address

    def _ended(self) -> None:
        self.open -= 1


class _Connection(socket.socket):
    """A connection that says when it is closed."""

    on_end: Callable[[], None] | None = None

    def close(self) -> None:
        """Closes it."""
        super().close()
        if self.on_end is not None:
            self.on_end()
            self.on_end = None


class ServerConfig(Config):
    """Hypercorn's configuration for a socket that listens already."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self.backlog = _AT_A_TIME

    def create_sockets(self) -> Sockets:
        """Returns the socket."""
        self._listener.setblocking(False)
        return Sockets([], [self._listener], [])
