"""How fast the pages of the web interface are made, how much they weigh, when they are seen."""

import gzip
import re
import shutil
import sqlite3
import statistics
import time
from contextlib import closing

import httpx

from benchmarks.api import fill
from benchmarks.measure import Table, percentile
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, running
from benchmarks.usage import cpu_seconds

P99_S = 0.050
PAINT_S = 0.300
WEIGHT_KB = 50
REQUESTS = 300
# A build as large as the reference environment.
BUILD, ENVIRONMENT, PACKAGES = 7, "ns6/env6", 170
ENVIRONMENTS, COMPLETED, WAITING = 1_000, 10_000, 1_000
# Until then no daemon takes them.
NEVER = 1e11


def measure(scene: Scene) -> Table:
    """Fills a database and asks for the pages one after the other, as people do (F93)."""
    table = scene.table(
        f"The web interface, {ENVIRONMENTS:,} environments, {COMPLETED:,} builds, and {WAITING:,} "
        "that wait",
        "none",
    )
    requests = 30 if scene.quick else REQUESTS
    with running(scene.fresh("data")) as daemon:
        fill(daemon, ENVIRONMENTS)
        _enlarge(daemon)
        _queue(daemon)
        client = daemon.client
        files = _files(client, daemon.url)
        table.value("scripts, styles and icon, packed", [sum(files) / 1e3], "kB")
        for what, path in _pages():
            url = f"{daemon.url}/ui{path}"
            client.get(url)
            taken, size = [], 0
            before = cpu_seconds(daemon.pid)
            for _ in range(requests):
                began = time.perf_counter()
                answer = client.get(url)
                taken.append(time.perf_counter() - began)
                assert answer.status_code == 200, answer.text
                size = len(gzip.compress(answer.content, 4))
            used = (cpu_seconds(daemon.pid) - before) / requests
            table.value(f"{what}, the daemon's CPU", [used], "s")
            table.value(f"{what}, median", [statistics.median(taken)], "s")
            table.value(f"{what}, 99th percentile", [percentile(taken, 99)], "s", P99_S)
            weight = (size + sum(files)) / 1e3
            table.value(f"{what}, weight with all files", [weight], "kB", WEIGHT_KB)
        _paint(table, daemon, scene.rounds)
    return table


def _pages() -> list[tuple[str, str]]:
    environment = f"/environment/{ENVIRONMENT}/"
    return [
        ("home", "/"),
        ("home, in the middle", "/?page=10"),
        ("home, a search", "/?search=env77"),
        ("home, by status", "/?status=completed"),
        ("environment, packages", environment),
        ("environment, builds", f"{environment}?tab=builds"),
        ("environment, how to use it", f"{environment}?tab=use"),
        ("build", f"/build/{BUILD}/"),
        ("build, packages", f"/build/{BUILD}/?tab=packages"),
        ("home, what waits", "/?status=queued"),
        ("build, the last that waits", f"/build/{COMPLETED + WAITING}/"),
        ("status", "/status/"),
    ]


def _enlarge(daemon: Daemon) -> None:
    with closing(sqlite3.connect(daemon.data / "condastore.sqlite", timeout=60)) as connection:
        connection.executemany(
            "INSERT OR IGNORE INTO build_conda_package_build VALUES (?, ?)",
            [(BUILD, number + 1) for number in range(PACKAGES)],
        )
        connection.commit()


def _queue(daemon: Daemon) -> None:
    """Adds builds that wait, two for every other environment."""
    now = "2026-01-01 00:00:00.000000"
    with closing(sqlite3.connect(daemon.data / "condastore.sqlite", timeout=60)) as connection:
        waiting = [(COMPLETED + number + 1, number * 2 % ENVIRONMENTS) for number in range(WAITING)]
        connection.executemany(
            "INSERT INTO build (id, specification_id, environment_id, status, size, "
            f"scheduled_on, build_key_version) VALUES (?, 1, ?, 'QUEUED', 0, '{now}', 2)",
            [(build_id, number + 1) for build_id, number in waiting],
        )
        connection.executemany(
            "INSERT INTO task (kind, namespace, build_id, payload, priority, state, attempts, "
            "not_before, cancel_requested, created_on) "
            f"VALUES ('build', ?, ?, '{{}}', 0, 'QUEUED', 0, {NEVER}, 0, '{now}')",
            [(f"ns{number % 20}", build_id) for build_id, number in waiting],
        )
        connection.commit()
        connection.execute("ANALYZE")
        connection.commit()


def _files(client: httpx.Client, url: str) -> list[int]:
    """Returns the packed sizes of all scripts and styles that any page loads."""
    page = client.get(f"{url}/ui/").text
    found = re.search(r'href="(\S+)/style.css"', page)
    assert found
    origin = re.sub(r"(https?://[^/]+).*", r"\1", url)
    waiting = ["style.css", "icon.svg", "app.js", "log.js", "editor.js"]
    sizes = []
    for name in waiting:
        answer = client.get(f"{origin}{found[1]}/{name}")
        sizes.append(int(answer.headers["content-length"]))
        for other in re.findall(r'from "\./([a-z]+\.js)"', answer.text):
            if other not in waiting:
                waiting.append(other)
    return sizes


def _paint(table: Table, daemon: Daemon, rounds: int) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        table.note("there is no chromium on this machine: when pages are seen was not measured")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])

        def look(path: str) -> float:
            page = browser.new_page()
            page.goto(f"{daemon.url}/ui{path}")
            page.wait_for_timeout(500)
            painted: float = page.evaluate(
                "performance.getEntriesByName('first-contentful-paint')[0].startTime"
            )
            page.close()
            return painted / 1e3

        # Anonymous callers see the namespace `default`, so the list is what they get at once.
        look("/")
        times = [look("/") for _ in range(max(rounds, 5))]
        table.value("first contentful paint", times, "s", PAINT_S)
        browser.close()


if __name__ == "__main__":
    run(measure)
