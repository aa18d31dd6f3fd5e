"""A proxy that tunnels to HTTPS servers (CONNECT), all of which are one server of this machine."""

import shutil
import socket
import socketserver
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class ConnectProxy(socketserver.ThreadingTCPServer):
    """A running proxy; see `tunnelling`."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, target: int) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.target = target
        self.asked: Counter[str] = Counter()
        """How often a tunnel to each `host:port` was asked for."""

    @property
    def url(self) -> str:
        """What belongs into `https_proxy`."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Tunnel(socketserver.StreamRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        method, place, *_ = self.rfile.readline().decode().split()
        while self.rfile.readline().strip():
            pass
        if method != "CONNECT":
            self.wfile.write(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n")
            return
        self.server.asked[place] += 1
        with socket.create_connection(("127.0.0.1", self.server.target)) as target:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(target, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, target)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        with source.makefile("rb", 0) as reading, target.makefile("wb", 0) as writing:
            shutil.copyfileobj(reading, writing)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def tunnelling(target: int) -> Iterator[ConnectProxy]:
    """A proxy whose tunnels all lead to a port of this machine, until the block ends."""
    with ConnectProxy(target) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
