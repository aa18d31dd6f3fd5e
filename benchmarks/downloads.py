"""Downloading blobs of images: one stream, and many at once while the API is asked."""

import asyncio
import os
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from benchmarks.measure import Table, percentile
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, running
from benchmarks.usage import peak_bytes, resident_bytes
from condastore import oci
from condastore.builds import BuildStatus
from condastore.database import Database
from condastore.image_rows import add_manifest, keep_blob, record_image
from tests.rows import add_build

MB = 10**6
BYTES = 500 * MB
QUICK_BYTES = 50 * MB
STREAMS = 50
PIECE = 256 * 1024
RECEIVE = 1024 * 1024
POLL_S = 0.02
# Its content is never looked at.
LAYER = "sha256:" + "0" * 64
PATH = f"/v2/default/env/blobs/{LAYER}"
SPAWN = get_context("spawn")


def measure(scene: Scene) -> Table:
    """Downloads one blob, once and fifty times at once."""
    table = scene.table("Downloads of blobs", "a loop of read and sendall in Python, same client")
    size = QUICK_BYTES if scene.quick else BYTES
    data = scene.fresh("data")
    with running(data) as daemon:
        file = _add_blob(data, size)
        _one(scene, table, daemon, file, size)
        _many(table, daemon, size)
    return table


def _one(scene: Scene, table: Table, daemon: Daemon, file: Path, size: int) -> None:
    ours, bare = [], []
    with _bare_server(file) as address:
        for _ in range(max(scene.rounds, 3)):
            ours.append(_seconds(_address(daemon), size))
            bare.append(_seconds(address, size))
    table.ratio("one stream", ours, bare, most=1 / 0.7)
    table.value("its speed", [size / MB / seconds for seconds in ours], "MB/s")
    table.value("that of the loop", [size / MB / seconds for seconds in bare], "MB/s")


def _many(table: Table, daemon: Daemon, size: int) -> None:
    alone = _poll(daemon, 2.0)
    before = resident_bytes(daemon.pid)
    downloads = SPAWN.Process(target=_download, args=(_address(daemon), size, STREAMS))
    began = time.perf_counter()
    downloads.start()
    latencies: list[float] = []
    while downloads.is_alive():
        latencies += _poll(daemon, 0.5)
    taken = time.perf_counter() - began
    if downloads.exitcode:
        sys.exit("a download failed")
    more = (peak_bytes(daemon.pid) - before) / MB
    table.value(f"memory for {STREAMS} at once, more than before", [more], "MB", most=100)
    table.value("their speed together", [STREAMS * size / MB / taken], "MB/s")
    table.value("API meanwhile, median", [percentile(latencies, 50) * 1000], "ms")
    table.value("API meanwhile, 99th percentile", [percentile(latencies, 99) * 1000], "ms", 100)
    table.value("API before, 99th percentile", [percentile(alone, 99) * 1000], "ms")


def _poll(daemon: Daemon, period_s: float) -> list[float]:
    """Returns how long answers of the API take, asked for one after the other."""
    found, end = [], time.perf_counter() + period_s
    while time.perf_counter() < end:
        began = time.perf_counter()
        assert daemon.request("GET", "/build/1/").status_code == httpx.codes.OK
        found.append(time.perf_counter() - began)
        time.sleep(POLL_S)
    return found


def _seconds(address: tuple[str, int], size: int) -> float:
    began = time.perf_counter()
    _download(address, size, 1)
    return time.perf_counter() - began


def _download(address: tuple[str, int], size: int, streams: int) -> None:
    """Receives the blob a number of times at once, and throws it away."""
    request = f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    buffer = bytearray(RECEIVE)
    received: dict[socket.socket, int] = {}
    with selectors.DefaultSelector() as selector:
        for _ in range(streams):
            connection = socket.create_connection(address)
            connection.sendall(request)
            selector.register(connection, selectors.EVENT_READ)
            received[connection] = 0
        while selector.get_map():
            for key, _ in selector.select():
                connection = key.fileobj  # type: ignore[assignment]
                count = connection.recv_into(buffer)
                received[connection] += count
                if count == 0:
                    selector.unregister(connection)
                    connection.close()
    assert all(size < total < size + 10_000 for total in received.values()), received


@contextmanager
def _bare_server(file: Path) -> Iterator[tuple[str, int]]:
    """Serves a file by the plainest loop, in a process of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = SPAWN.Process(target=_serve_bare, args=(listener, file), daemon=True)
        process.start()
        yield listener.getsockname()
        process.kill()
        process.join()


def _serve_bare(listener: socket.socket, file: Path) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_send_bare, args=(connection, file), daemon=True).start()


def _send_bare(connection: socket.socket, file: Path) -> None:
    with connection, file.open("rb", buffering=0) as reader:
        connection.recv(10_000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")
        while piece := reader.read(PIECE):
            connection.sendall(piece)


def _address(daemon: Daemon) -> tuple[str, int]:
    parts = urlsplit(daemon.url)
    assert parts.hostname is not None and parts.port is not None
    return parts.hostname, parts.port


def _add_blob(data: Path, size: int) -> Path:
    """Puts an image with one large blob into a daemon's storage and database."""
    file = data / "storage" / oci.blob_key(LAYER)
    file.parent.mkdir(parents=True, exist_ok=True)
    piece = os.urandom(MB)
    with file.open("wb") as writer:
        for _ in range(size // MB):
            writer.write(piece)
    layer = {"mediaType": oci.LAYER_GZIP, "digest": LAYER, "size": size}
    manifest = {"schemaVersion": 2, "mediaType": oci.MANIFEST, "layers": [layer]}
    asyncio.run(_add_rows(data, oci.canonical(manifest), size))
    return file


async def _add_rows(data: Path, manifest: bytes, size: int) -> None:
    database = Database(f"sqlite:///{data / 'condastore.sqlite'}")
    await database.open()
    try:
        build_id = await add_build(database, status=BuildStatus.COMPLETED, current=True)
        async with database.write() as session:
            await keep_blob(session, LAYER, size)
            digest = await add_manifest(session, manifest)
            await record_image(
                session, build_id, key="0" * 64, lock_hash="0" * 64, manifest_digest=digest
            )
    finally:
        await database.close()


if __name__ == "__main__":
    run(measure)
