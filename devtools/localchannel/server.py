"""A channel over HTTP on this machine, with faults and locks on demand.

::

    with serve(channel, token="secret", faults={"*.conda": Fault(drip=1000)}) as server:
        build(server.url)
    assert server.requests["/noarch/repodata.json.zst"] == 1
"""

from __future__ import annotations

import base64
import fnmatch
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

_CHUNK = 65536
# A drip is written this often, so that it is slow and yet never quite silent.
_DRIP_INTERVAL = 0.05


@dataclass(frozen=True)
class Fault:
    """What goes wrong with the paths that it is given for."""

    #: Seconds to wait before answering.
    delay: float = 0.0
    #: Wait for this before answering.
    until: threading.Event | None = None
    #: Bytes for each second of the body, instead of all at once.
    drip: int | None = None
    #: Answer with this status and no file.
    status: int | None = None
    #: With such a status: ask for a pause, in seconds or until a date.
    retry_after: str | None = None
    #: Break off the body after this many bytes, though its length was promised.
    truncate: int | None = None
    #: Break it off by a reset (RST) instead of an orderly end.
    reset: bool = False
    #: Promise only so many bytes, though all of them are sent.
    promise: int | None = None
    #: Answer with this web page, as a captive portal does.
    page: str | None = None
    #: Send to this URL instead.
    redirect: str | None = None
    #: Do this only so many times, then answer as if nothing had been.
    times: int | None = None


class ChannelServer:
    """A running server; see :func:`serve`."""

    def __init__(
        self,
        directory: Path,
        access: _Access,
        faults: Mapping[str, Fault],
        tls: ssl.SSLContext | None,
    ) -> None:
        self.directory = directory.resolve()
        self._scheme = "https" if tls else "http"
        #: How often each path was asked for, whatever the answer was.
        self.requests: Counter[str] = Counter()
        #: The paths that were refused for want of credentials.
        self.refused: Counter[str] = Counter()
        #: Faults by path pattern, first match wins; may be changed while serving.
        self.faults = dict(faults)
        self.access = access
        self._occurred: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http = _HTTPServer(("127.0.0.1", 0), self)
        if tls is not None:
            # The handshake is the handler's, so that none holds up the others.
            self._http.socket = tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            # The interval is how long stopping takes at most.
            target=self._http.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="channel-server",
        )

    @property
    def root(self) -> str:
        """The address of the server, without credentials."""
        host, port = self._http.server_address[:2]
        return f"{self._scheme}://{host!s}:{port}"

    @property
    def url(self) -> str:
        """The address of the channel; a conda token, being part of the path, is in it."""
        return self.root + self.access.path_prefix

    def start(self) -> None:
        """Serve from a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, also in the middle of slow answers."""
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def count(self, path: str, refused: bool) -> None:
        """Note a request."""
        with self._lock:
            self.requests[path] += 1
            if refused:
                self.refused[path] += 1

    def fault(self, path: str, counts: bool) -> Fault:
        """Return what is to go wrong with this request; one that doesn't count is as the last."""
        with self._lock:
            for pattern, fault in self.faults.items():
                if not fnmatch.fnmatchcase(path.lstrip("/"), pattern.lstrip("/")):
                    continue
                self._occurred[pattern] += counts
                if fault.times is None or self._occurred[pattern] <= fault.times:
                    return fault
        return Fault()

    def pause(self, seconds: float) -> bool:
        """Wait; False if the server is stopping."""
        return not self._stopping.wait(seconds) if seconds else not self._stopping.is_set()

    def wait(self, event: threading.Event | None) -> bool:
        """Wait for something; False if the server is stopping."""
        while event is not None and not event.is_set():
            if not self.pause(_DRIP_INTERVAL):
                return False
        return True


@dataclass(frozen=True)
class _Access:
    """Who may read the channel: everybody, or who shows one kind of credential."""

    authorization: str | None = None
    path_prefix: str = ""

    @classmethod
    def of(cls, basic: tuple[str, str] | None, bearer: str | None, token: str | None) -> _Access:
        if sum(credential is not None for credential in (basic, bearer, token)) > 1:
            raise ValueError("choose one of basic, bearer and token")
        if basic is not None:
            encoded = base64.b64encode(":".join(basic).encode()).decode()
            return cls(authorization=f"Basic {encoded}")
        if bearer is not None:
            return cls(authorization=f"Bearer {bearer}")
        return cls(path_prefix=f"/t/{token}" if token is not None else "")

    def path_below(self, path: str, authorization: str | None) -> str | None:
        """Return the path within the channel, or None for who may not read it."""
        if self.authorization is not None and authorization != self.authorization:
            return None
        if not path.startswith(self.path_prefix + "/"):
            return None
        return path.removeprefix(self.path_prefix)


@contextmanager
def serve(
    directory: Path,
    *,
    basic: tuple[str, str] | None = None,
    bearer: str | None = None,
    token: str | None = None,
    faults: Mapping[str, Fault] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[ChannelServer]:
    """Serve a channel on a free port of 127.0.0.1 until the block ends.

    ``basic`` (user and password), ``bearer`` or ``token`` (conda's ``/t/TOKEN/`` in the path)
    locks it. ``faults`` maps patterns such as ``noarch/*.conda`` to what goes wrong. With ``tls``
    it is served by HTTPS.
    """
    server = ChannelServer(directory, _Access.of(basic, bearer, token), faults or {}, tls)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class _HTTPServer(ThreadingHTTPServer):
    daemon_threads = True
    # Stopping must not wait for a client that keeps its connection open.
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], channel: ChannelServer) -> None:
        super().__init__(address, _Handler)
        self.channel = channel

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients that hang up are what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _HTTPServer

    def do_GET(self) -> None:
        """Answer with a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers of a file."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are counted."""

    def _answer(self, with_body: bool) -> None:
        channel = self.server.channel
        requested = unquote(urlsplit(self.path).path)
        path = channel.access.path_below(requested, self.headers.get("Authorization"))
        channel.count(requested if path is None else path, refused=path is None)
        if path is None:
            self._refuse()
            return
        fault = channel.fault(path, counts=with_body)
        file = self._file(path)
        if not (channel.pause(fault.delay) and channel.wait(fault.until)):
            self.close_connection = True
        elif fault.redirect is not None:
            self._headers(HTTPStatus.FOUND, 0, {"Location": fault.redirect})
        elif fault.status is not None:
            asked = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            self._headers(fault.status, 0, asked)
        elif fault.page is not None:
            page = fault.page.encode()
            self._headers(HTTPStatus.OK, len(page), {"Content-Type": "text/html"})
            if with_body:
                self._body(page, fault)
        elif file is None:
            self._headers(HTTPStatus.NOT_FOUND, 0)
        else:
            self._send(file, fault, with_body)

    def _refuse(self) -> None:
        scheme = (self.server.channel.access.authorization or "").partition(" ")[0]
        if scheme:
            challenge = {"WWW-Authenticate": f'{scheme} realm="channel"'}
            self._headers(HTTPStatus.UNAUTHORIZED, 0, challenge)
        else:
            self._headers(HTTPStatus.FORBIDDEN, 0)

    def _file(self, path: str) -> Path | None:
        relative = PurePosixPath(path.lstrip("/"))
        file = self.server.channel.directory / relative
        return file if ".." not in relative.parts and file.is_file() else None

    def _send(self, file: Path, fault: Fault, with_body: bool) -> None:
        content = file.read_bytes()
        stat = file.stat()
        tag = f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'
        if self.headers.get("If-None-Match") == tag:
            self._headers(HTTPStatus.NOT_MODIFIED, None, {"ETag": tag})
            return
        promised = len(content) if fault.promise is None else fault.promise
        self._headers(HTTPStatus.OK, promised, {"ETag": tag})
        if with_body:
            self._body(content if fault.truncate is None else content[: fault.truncate], fault)
            if fault.truncate is not None or fault.promise is not None:
                self.close_connection = True
            if fault.reset:
                self._reset()

    def _reset(self) -> None:
        """Close the connection by a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.wfile.close()
        self.rfile.close()
        self.connection.close()

    def _headers(
        self, status: int, length: int | None, fields: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (fields or {}).items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self, content: bytes, fault: Fault) -> None:
        size = _CHUNK if fault.drip is None else max(1, int(fault.drip * _DRIP_INTERVAL))
        started = time.monotonic()
        for offset in range(0, len(content), size):
            due = started + offset / fault.drip if fault.drip else 0.0
            if not self.server.channel.pause(max(0.0, due - time.monotonic())):
                self.close_connection = True
                return
            self.wfile.write(content[offset : offset + size])
            self.wfile.flush()
