"""The socket that requests come in by: how many connections there may be, and what then happens."""

import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypercorn.config import Config, Sockets
from hypercorn.protocol import ws_stream

from condastore.errors import ConfigurationError, NotYet

logger = logging.getLogger(__name__)

# The kernel keeps as many until they are accepted; it has a limit of its own (somaxconn).
BACKLOG = 4096
# So many are accepted before the event loop turns to something else.
_AT_A_TIME = 8
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

    @classmethod
    def on_port(cls, address: str, port: int) -> "Listener":
        """Returns one that listens on a port. Raises `ConfigurationError`."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = cls(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
            listener.listen()
        except OSError as error:
            listener.close()
            kind = ConfigurationError if error.errno == errno.EACCES else NotYet
            raise kind(
                f"port {port} on {address} can't be used: {error.strerror}; set "
                "c.CondaStoreServer.port to a free one, or to 0"
            ) from error
        return listener

    @classmethod
    def on_path(cls, path: Path, mode: int) -> "Listener":
        """Returns one that listens on a Unix socket, which replaces one that nobody listens on.

        Raises `ConfigurationError`.
        """
        listener = cls(socket.AF_UNIX, socket.SOCK_STREAM)
        beside = path.with_name(f".{path.name}.new")
        try:
            if _is_answered(path):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            if path.exists() and not path.is_socket():
                raise OSError(errno.EEXIST, "there is a file of this name")
            beside.unlink(missing_ok=True)
            listener.bind(str(beside))
            beside.chmod(mode)
            listener.listen()
            beside.rename(path)
        except OSError as error:
            listener.close()
            raise NotYet(
                f"the socket {path} can't be used: {error.strerror or error}; set "
                "c.CondaStoreServer.unix_socket to a path that this user may write to"
            ) from error
        listener._path = path
        return listener

    @classmethod
    def on_descriptor(cls, descriptor: int) -> "Listener":
        """Returns one of a socket that this process was started with.

        Raises `ConfigurationError` if it is none that can be listened on.
        """
        try:
            listener = cls(fileno=descriptor)
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.close()
                raise OSError(errno.EINVAL, "it does not listen")
        except OSError as error:
            raise ConfigurationError(
                f"the socket that was passed on can't be used: {error.strerror}; "
                "condastore.socket must have a ListenStream= line"
            ) from error
        return listener

    _path: Path | None = None
    """Of a Unix socket that is ours to remove."""

    @property
    def is_local(self) -> bool:
        """Whether only processes of this machine can reach it."""
        return self.family == socket.AF_UNIX

    @property
    def path(self) -> str:
        """Of a Unix socket."""
        return str(self._path or self.getsockname())

    def close(self) -> None:
        """Ends it."""
        super().close()
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink()
            self._path = None

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


def _is_answered(path: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


class _Connection(socket.socket):
    """A connection that says when it is closed."""

    on_end: Callable[[], None] | None = None

    def close(self) -> None:
        """Closes it."""
        super().close()
        if self.on_end is not None:
            self.on_end()
            self.on_end = None


class _Encrypted(ssl.SSLObject):
    """What encrypts a connection; it ends without the client's consent.

    Most clients answer the end of an idle connection when they look at it next. asyncio would wait
    for them for half a minute, also in a daemon that stops, and complain of each.
    """

    def unwrap(self) -> None:
        """Says that no more comes; what asyncio holds back is sent all the same."""
        with suppress(ssl.SSLWantReadError):
            super().unwrap()


def _no_extension(*_: object) -> None:
    """Agrees to no compression of a websocket (RFC 7692).

    A few bytes of a client's would be made megabytes before anybody looks at their size, and every
    reader of a log would cost a compressor of his own.
    """


class ServerConfig(Config):
    """Hypercorn's configuration for a socket that listens already."""

    def __init__(self, listener: Listener) -> None:
        super().__init__()
        self._listener = listener
        self.backlog = _AT_A_TIME
        # Hypercorn has no setting for it.
        vars(ws_stream)["server_extensions_handshake"] = _no_extension
        self._context: ssl.SSLContext | None = None
        self._newest: ssl.SSLContext | None = None

    def read_certificate(self) -> None:
        """Reads the certificate, if there is to be one, for the connections to come.

        Raises `ConfigurationError` and keeps the one that there was.
        """
        if not self.ssl_enabled:
            return
        try:
            context = super().create_ssl_context()
        except OSError as error:
            raise ConfigurationError(
                f"the certificate {self.certfile} and the key {self.keyfile} can't be used: "
                f"{error.strerror or error}; see c.CondaStoreServer.certfile and keyfile"
            ) from error
        assert context is not None
        self._newest = context
        if self._context is None:
            context.sslobject_class = _Encrypted
            context.sni_callback = self._begin
            self._context = context

    def _begin(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        """Gives a connection the newest certificate; what listens has the first one's context.

        Files that were read whole once are not read again, as they may be half renewed by then.
        """
        assert self._newest is not None
        connection.context = self._newest

    def create_ssl_context(self) -> ssl.SSLContext | None:
        """Returns what connections are encrypted with."""
        return self._context

    def create_sockets(self) -> Sockets:
        """Returns the socket."""
        self._listener.setblocking(False)
        if self.ssl_enabled:
            return Sockets([self._listener], [], [])
        return Sockets([], [self._listener], [])
