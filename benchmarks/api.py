"""How fast the API answers, beside a constant answer of the same size from the same server."""

import asyncio
import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from benchmarks.loop_lag import loop_lag, watched
from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from benchmarks.served import ENDED, Daemon

CONNECTIONS = 16
PERIOD_S = 3.0
PACKAGES = 2_000
PACKAGES_OF_A_BUILD = 20
# Shares of the constant answer's rate, as times of it.
ONE, PAGE, POLL = 1 / 0.25, 1 / 0.15, 1 / 0.6
P99_S = 0.030
LAG_S = 0.050

CONSTANT = """
import asyncio, sys
from hypercorn.asyncio import serve
from hypercorn.config import Config

async def app(scope, receive, send):
    body = b"x" * int(scope["path"].strip("/") or 0)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})

config = Config()
config.bind = ["127.0.0.1:" + sys.argv[1]]
config.include_server_header = False
config.loglevel = "ERROR"
asyncio.run(serve(app, config))
"""


def measure(scene: Scene) -> Table:
    """Fills databases of two sizes and asks for the same pages of both."""
    baseline = "the time that the same Hypercorn takes for a constant answer of the same size"
    table = scene.table("The API, 16 connections", baseline)
    sizes = (200, 2_000) if scene.quick else (1_000, 10_000)
    times: dict[str, list[list[float]]] = {}
    for environments in sizes:
        with watched(scene) as daemon, _constant() as constant:
            fill(daemon, environments)
            loop_lag(daemon)
            for what, path, most in _pages(environments):
                taken, other, p99 = _rounds(scene, daemon, constant, path, anew=most != POLL)
                if environments == sizes[0]:
                    table.ratio(f"{what}, {environments} environments", taken, other, most)
                    table.value(f"{what}, 99th percentile", p99, "s", P99_S)
                # As times of the constant answer's, since the machine may be slower by then.
                times.setdefault(what, []).append(
                    [one / two for one, two in zip(taken, other, strict=True)]
                )
            _show_lag(table, daemon, f"the event loop is late, {environments} environments")
            if environments == sizes[0]:
                _build_and_ask(scene, daemon)
                _show_lag(table, daemon, "the event loop is late while it builds")
    for what, (small, large) in times.items():
        table.ratio(f"{what}, {sizes[1]} environments / {sizes[0]}", large, small, 1.5, unit="x")
    return table


def _show_lag(table: Table, daemon: Daemon, what: str) -> None:
    late, busy = loop_lag(daemon)
    table.value(f"{what}, at most", [late], "s", LAG_S)
    table.value("of which it worked", [busy], "s", LAG_S)


def _rounds(
    scene: Scene, daemon: Daemon, constant: str, path: str, *, anew: bool
) -> tuple[list[float], list[float], list[float]]:
    """Returns seconds a request, those of the constant answer, and 99th percentiles."""
    taken, other, p99 = [], [], []
    for _ in range(scene.rounds):
        size, seconds, slow = _ask(daemon.url, f"/api/v1{path}", daemon.token, anew=anew)
        taken.append(seconds)
        p99.append(slow)
        other.append(_ask(constant, f"/{size}", "", anew=anew)[1])
    return taken, other, p99


def _build_and_ask(scene: Scene, daemon: Daemon) -> None:
    """Builds, and asks for pages until the build has ended."""
    build_id = daemon.submit(
        {
            "name": "built",
            "channels": [scene.channel_of("small").as_uri()],
            "dependencies": ["python", "flask"],
        }
    )
    while daemon.build(build_id)["status"] not in ENDED:
        _ask(daemon.url, "/api/v1/environment/?size=100", daemon.token, anew=True)
    daemon.completed(build_id)


def _pages(environments: int) -> list[tuple[str, str, float]]:
    return [
        ("one build", "/build/7/", ONE),
        ("permissions", "/permission/", ONE),
        ("a page of 100 environments", "/environment/?size=100", PAGE),
        ("the same, in the middle", f"/environment/?size=100&page={environments // 200}", PAGE),
        ("a page of 100 builds", "/build/?size=100", PAGE),
        ("builds in the middle", f"/build/?size=100&page={environments // 20}", PAGE),
        ("a poll of a page that has not changed", "/build/?namespace=ns3&name=env3", POLL),
        ("builds of an environment", "/build/?namespace=ns3&name=env3&sort_by=scheduled_on", ONE),
    ]


def fill(daemon: Daemon, environments: int) -> None:
    """Adds environments in 20 namespaces, ten builds each, and twenty packages a build."""
    now = "2026-01-01 00:00:00.000000"
    with closing(sqlite3.connect(daemon.data / "condastore.sqlite", timeout=60)) as connection:
        insert = connection.executemany
        insert(
            "INSERT INTO namespace (id, name, metadata_) VALUES (?, ?, '{}')",
            [(n + 1, f"ns{n}") for n in range(20)],
        )
        spec = json.dumps({"name": "env", "channels": [], "dependencies": ["python"]})
        connection.execute(
            "INSERT INTO specification (id, name, spec, sha256, created_on, is_lockfile) "
            f"VALUES (1, 'env', '{spec}', 'x', '{now}', 0)"
        )
        insert(
            "INSERT INTO environment (id, namespace_id, name) VALUES (?, ?, ?)",
            [(n + 1, n % 20 + 1, f"env{n}") for n in range(environments)],
        )
        insert(
            "INSERT INTO build (id, specification_id, environment_id, status, size, "
            f"scheduled_on, build_key_version) VALUES (?, 1, ?, 'COMPLETED', 1, '{now}', 2)",
            [(n + 1, n % environments + 1) for n in range(10 * environments)],
        )
        connection.execute("UPDATE environment SET current_build_id = id")
        connection.execute("INSERT INTO conda_channel (id, name) VALUES (1, 'file:///c')")
        insert(
            "INSERT INTO conda_package (id, channel_id, name, version) VALUES (?, 1, ?, '1')",
            [(n + 1, f"package{n}") for n in range(PACKAGES)],
        )
        insert(
            "INSERT INTO conda_package_build (id, package_id, channel_id, build, build_number, "
            "depends, md5, sha256, size) VALUES (?, ?, 1, '0', 0, '[]', '', ?, 1)",
            [(n + 1, n + 1, str(n)) for n in range(PACKAGES)],
        )
        insert(
            "INSERT INTO build_conda_package_build VALUES (?, ?)",
            [
                (n + 1, (n * 7 + k) % PACKAGES + 1)
                for n in range(10 * environments)
                for k in range(PACKAGES_OF_A_BUILD)
            ],
        )
        connection.commit()
        connection.execute("ANALYZE")
        connection.commit()


@contextmanager
def _constant() -> Iterator[str]:
    port = 18743
    process = subprocess.Popen([sys.executable, "-c", CONSTANT, str(port)])
    try:
        time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _ask(url: str, path: str, token: str, *, anew: bool) -> tuple[int, float, float]:
    """Returns the size of the answer, seconds a request, and the 99th percentile of latencies.

    `anew` asks so that no answer is one that was kept.
    """
    return asyncio.run(_ask_all(url.removeprefix("http://"), path, token, anew=anew))


async def _ask_all(address: str, path: str, token: str, *, anew: bool) -> tuple[int, float, float]:
    host, _, port = address.partition(":")
    numbers = itertools.count()
    joint = "&" if "?" in path else "?"

    def request() -> bytes:
        target = f"{path}{joint}n={next(numbers)}" if anew else path
        return (
            f"GET {target} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        ).encode()

    latencies: list[float] = []
    sizes: set[int] = set()
    end = time.perf_counter() + PERIOD_S

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        while time.perf_counter() < end:
            began = time.perf_counter()
            writer.write(request())
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                # Hypercorn ends a connection after a thousand requests.
                writer.close()
                reader, writer = await asyncio.open_connection(host, int(port))
                continue
            assert b" 200 " in head.split(b"\r\n", 1)[0], head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - began)
            sizes.add(length)
        writer.close()

    await asyncio.gather(*(ask() for _ in range(CONNECTIONS)))
    latencies.sort()
    return max(sizes), PERIOD_S / len(latencies), latencies[int(len(latencies) * 0.99)]


if __name__ == "__main__":
    run(measure)
