"""A real daemon process, driven as its users drive it: over HTTP."""

import asyncio
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, TypeVar

import asyncpg
import httpx
from websockets.sync.client import ClientConnection, connect

from tests.acceptance.zygote import Forked, Zygote
from tests.patience import PATIENCE_S, pauses

T = TypeVar("T")
BUILD_TIMEOUT_S = 300.0
DATABASE_URL = "--CondaStore.database_url"
# In the environment: the URL of a PostgreSQL server, on which every daemon gets a database.
DATABASE_SERVER = "CONDASTORE_TEST_DATABASE_SERVER"
BUILD_ARTIFACTS = "--CondaStore.build_artifacts"
DEFAULTS = [
    ("--CondaStoreServer.port", 0),
    # The disks of test machines are small.
    ("--CondaStore.storage_threshold", 0),
    # Archives take time, so tests of archives ask for them.
    (BUILD_ARTIFACTS, "LOCKFILE"),
    (BUILD_ARTIFACTS, "YAML"),
    # Only the tests of the package index ask for it.
    ("--CondaStoreWorker.index_interval", 0),
]
# Longer than any test waits: what ends earlier was stopped.
FOREVER_S = 3 * PATIENCE_S
ENDED = ("COMPLETED", "FAILED", "CANCELED")


class DaemonDied(Exception):
    """The daemon ended before it served; the text is what it printed."""


class Daemon:
    """One daemon on a data directory; it may be killed and started again."""

    zygote: ClassVar[Zygote | None] = None

    def __init__(self, data: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self.data = data
        self.arguments = arguments
        self.database_url = _given(arguments, DATABASE_URL) or database_of(data)
        self.env = env or {}
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.url = ""
        self.token = ""
        # The daemon closes idle connections after a while; ours are younger when used again.
        self.client = httpx.Client(timeout=PATIENCE_S, limits=httpx.Limits(keepalive_expiry=2))

    # The process

    def start(self, **env: str) -> "Daemon":
        """Starts the daemon and waits until it serves. Raises `DaemonDied`."""
        self.data.mkdir(parents=True, exist_ok=True)
        arguments = ["serve", f"--data={self.data}", *self.arguments, *self.defaults()]
        with self.output.open("ab") as output:
            began = output.tell()
            self.process = self._launch(arguments, output, self.environment(**env))
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            # In this order: what a daemon says last is said when it has ended.
            has_ended = self.process.poll() is not None
            printed = self.output.read_bytes()[began:].decode()
            url = re.search(r"serves (https?://\S+)/api/v1/", printed)
            token = re.search(r"change anything: (\S+)\n", printed)
            if url and token:
                self.url, self.token = url[1], token[1]
                self.client.headers["Authorization"] = f"Bearer {self.token}"
                return self
            if has_ended:
                raise DaemonDied(printed)
            time.sleep(0.01)
        raise DaemonDied(f"not ready after {PATIENCE_S} s:\n{printed}")

    def _launch(
        self, arguments: Sequence[str], output: BinaryIO, env: Mapping[str, str]
    ) -> "subprocess.Popen[bytes] | Forked":
        if self.zygote is not None and self.zygote.suits(env):
            return self.zygote.fork(arguments, output, env)
        command = [sys.executable, "-m", "condastore", *arguments]
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)

    def environment(self, **env: str) -> dict[str, str]:
        """Returns the environment that the daemon is started with."""
        return {**os.environ, **self.env, **env}

    def defaults(self) -> list[str]:
        """Returns the options that the test did not give."""
        given = {argument.partition("=")[0] for argument in self.arguments}
        defaults = list(DEFAULTS)
        if DATABASE_SERVER in os.environ:
            defaults.append((DATABASE_URL, self.database_url))
        return [f"{name}={value}" for name, value in defaults if name not in given]

    @property
    def output(self) -> Path:
        """What the daemon printed, over all its starts."""
        return self.data / "daemon.out"

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_stopped(self) -> bool:
        """Whether a signal stopped it, such as that of a fault point."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Waits until the daemon ends by itself; returns its exit status."""
        assert self.process is not None
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    # The API

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Sends a request; `path` begins after `/api/v1`."""
        return self.client.request(method, f"{self.url}/api/v1{path}", **options)

    def data_of(self, path: str) -> Any:
        """Returns the data of a GET that must succeed."""
        response = self.request("GET", path)
        assert response.status_code == 200, response.text
        return response.json()["data"]

    def post(self, specification: str | dict[str, Any], **fields: Any) -> httpx.Response:
        """Posts a specification, given as text or as what YAML (being JSON) says."""
        text = specification if isinstance(specification, str) else json.dumps(specification)
        return self.request("POST", "/specification/", json={"specification": text, **fields})

    def submit(self, specification: str | dict[str, Any], **fields: Any) -> int:
        """Posts a specification that must be accepted; returns the build's id."""
        response = self.post(specification, **fields)
        assert response.status_code == 200, response.text
        build_id: int = response.json()["data"]["build_id"]
        return build_id

    def build(self, build_id: int) -> dict[str, Any]:
        """Returns a build as the API shows it."""
        found: dict[str, Any] = self.data_of(f"/build/{build_id}/")
        return found

    def ended(self, build_id: int, timeout_s: float = BUILD_TIMEOUT_S) -> dict[str, Any]:
        """Waits until a build has ended and returns it."""
        for _ in pauses(timeout_s):
            build = self.build(build_id)
            if build["status"] in ENDED:
                return build
        raise TimeoutError(f"build {build_id} is {build['status']} after {timeout_s} s")

    def completed(self, build_id: int) -> dict[str, Any]:
        """Waits until a build that must succeed has; returns it."""
        build = self.ended(build_id)
        assert build["status"] == "COMPLETED", self.log(build_id)
        return build

    def made(self, build_id: int, artifact: str) -> dict[str, Any]:
        """Waits until a form of a build is there; returns what the API says of it."""
        for _ in pauses(BUILD_TIMEOUT_S):
            rows = self.data_of(f"/build/{build_id}/artifacts/")
            found: dict[str, Any] = next(r for r in rows if r["artifact_type"] == artifact)
            if found["state"] == "READY":
                return found
            assert found["state"] in ("QUEUED", "RUNNING"), found
        raise TimeoutError(f"{artifact} of build {build_id} is {found}")

    def log(self, build_id: int) -> str:
        """Returns a build's log so far."""
        return self.request("GET", f"/build/{build_id}/logs/", follow_redirects=True).text

    def socket(self, build_id: int, offset: int = 0) -> ClientConnection:
        """Opens the websocket of a build's log."""
        url = self.url.replace("http://", "ws://")
        address = f"{url}/api/v1/build/{build_id}/logs/ws?offset={offset}"
        return listen(address)

    def cancel(self, build_id: int) -> None:
        """Cancels a build, which must be accepted."""
        response = self.request("PUT", f"/build/{build_id}/cancel/")
        assert response.status_code == 200, response.text

    def enters(self, build_id: int, phase: str) -> bool:
        """Waits until a build enters a phase; whether it was seen in time."""
        with self.socket(build_id) as socket:
            for frame in socket:
                event = json.loads(frame)
                if event.get("event") == "phase" and event["phase"] == phase:
                    return True
        return False

    def wait_for_event(self, build_id: int, phase: str) -> None:
        """Waits until a build, which must last a while then, enters a phase."""
        assert self.enters(build_id, phase), f"build {build_id} ended without phase {phase}"

    # The disk

    @property
    def store(self) -> Path:
        return self.data / "state"

    def link(self, name: str, namespace: str = "default") -> Path:
        """Returns an environment's symbolic link."""
        return self.store / namespace / "envs" / name

    def prefixes(self, namespace: str = "default") -> list[Path]:
        """Returns the prefixes that can be seen, whatever they are worth."""
        directory = self.store / namespace
        found = directory.iterdir() if directory.is_dir() else []
        return sorted(path for path in found if path.name != "envs")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Returns what the database says, past the daemon; what `sql` changes stays."""
        return query(self.database_url, sql)

    def processes(self) -> list[str]:
        """Returns the living processes that work in the store: engines and what they started."""
        return [
            f"{pid} {path}" for path, pids in self._working_directories().items() for pid in pids
        ]

    def _working_directories(self) -> dict[Path, list[int]]:
        found: dict[Path, list[int]] = {}
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                working = Path(os.readlink(directory / "cwd").removesuffix(" (deleted)"))
                if not working.is_relative_to(self.store):
                    continue
                state = (directory / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if state != "Z":
                found.setdefault(working, []).append(int(directory.name))
        return found

    def litter(self) -> list[Path]:
        """Returns what may only be there while something is at work."""
        places = [".trash", ".pkgs/work", ".pkgs/claims", ".repodata/external/work"]
        found = [path for place in places for path in (self.store / place).glob("*")]
        # A solver that waits for its next job has a directory of its own.
        at_work = {path.name for path in self._working_directories()}
        found += [path for path in (self.store / ".scratch").glob("*") if path.name not in at_work]
        found += (self.data / "storage").rglob("*.new")
        found += self.data.glob("*.new")
        found += self.store.glob("*/envs/.*")
        return sorted(found)

    def orphans(self) -> dict[str, int]:
        """Returns the numbers of rows that belong to nothing."""
        queries = {
            "artifacts": "build_artifact WHERE build_id NOT IN (SELECT id FROM build)",
            "builds": "build WHERE environment_id NOT IN (SELECT id FROM environment)",
            "packages": "build_conda_package_build WHERE build_id NOT IN (SELECT id FROM build)",
            "tasks": "task WHERE state = 'RUNNING'",
            "stuck builds": "build WHERE status IN ('QUEUED', 'BUILDING') AND id NOT IN "
            "(SELECT build_id FROM task WHERE kind = 'build' AND state IN ('QUEUED', 'RUNNING'))",
            "environments": "environment WHERE current_build_id IS NULL",
        }
        counts = {
            key: self.query(f"SELECT count(*) FROM {sql}")[0][0] for key, sql in queries.items()
        }
        return {key: count for key, count in counts.items() if count}


def get(url: str) -> httpx.Response:
    """GETs as somebody without a token."""
    return httpx.get(url, timeout=PATIENCE_S)


def listen(url: str, **options: Any) -> ClientConnection:
    """Opens a websocket, and does not give it up when the other side is slow."""
    connection: ClientConnection = connect(
        url, max_size=None, open_timeout=PATIENCE_S, ping_interval=None, **options
    )
    return connection


def database_of(data: Path) -> str:
    """Returns the URL of the database of a data directory: in it, or where `--database` says."""
    server = os.environ.get(DATABASE_SERVER)
    if server is None:
        return f"sqlite:///{data / 'condastore.sqlite'}"
    name = f"data_{hashlib.sha256(str(data).encode()).hexdigest()[:16]}"
    _waited_for(_make_database(server, name))
    return f"{server.rpartition('/')[0]}/{name}"


def query(url: str, sql: str) -> list[tuple[Any, ...]]:
    """Returns what a database says; what `sql` changes stays."""
    if not url.startswith("sqlite:"):
        return _waited_for(_queried(url, sql))
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, timeout=30)) as connection, connection:
        return connection.execute(sql).fetchall()


def kept_database(data: Path) -> Callable[[], object]:
    """Returns what makes the database of a stopped daemon again what it is now."""
    url = database_of(data)
    if url.startswith("sqlite:"):
        path = Path(url.removeprefix("sqlite:///"))
        return partial(path.write_bytes, path.read_bytes())
    server, name = os.environ[DATABASE_SERVER], url.rpartition("/")[2]
    kept = f"kept_{uuid.uuid4().hex[:16]}"
    _waited_for(_copy_database(server, name, kept))
    return lambda: _waited_for(_copy_database(server, kept, name))


def _given(arguments: Sequence[str], option: str) -> str | None:
    found = [text.partition("=")[2] for text in arguments if text.startswith(f"{option}=")]
    return found[-1] if found else None


def _waited_for(work: Coroutine[Any, Any, T]) -> T:
    """Returns what it returns; in a thread, since a browser has an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


async def _make_database(server: str, name: str) -> None:
    """Makes it, unless a daemon was on that data directory before."""
    connection = await asyncpg.connect(server)
    try:
        with suppress(asyncpg.DuplicateDatabaseError):
            await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()


async def _copy_database(server: str, source: str, target: str) -> None:
    """Makes a database what another one is, which nobody may use meanwhile."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {target} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {target} TEMPLATE {source}")
    finally:
        await connection.close()


async def _queried(url: str, sql: str) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(sql)]
    finally:
        await connection.close()


def eventually(
    true: Callable[[], object], timeout_s: float = PATIENCE_S, what: object = ""
) -> None:
    """Waits until something is so."""
    for _ in pauses(timeout_s):
        if true():
            return
    detail = what() if callable(what) else what
    raise AssertionError(f"not so after {timeout_s} s: {detail or true}")


def is_clean(daemon: Daemon) -> bool:
    """Whether nothing is left that only work in progress may leave."""
    return not (daemon.litter() or daemon.orphans())


def assert_becomes_clean(daemon: Daemon) -> None:
    """Waits until the daemon has put everything away."""
    eventually(lambda: is_clean(daemon), what=lambda: f"{daemon.litter()} {daemon.orphans()}")


@contextmanager
def forked_daemons() -> Iterator[None]:
    """Within the block daemons are forked from a zygote, where that makes no difference."""
    with Zygote() as Daemon.zygote:
        try:
            yield
        finally:
            Daemon.zygote = None


@contextmanager
def running(data: Path, *arguments: str, **env: str) -> Iterator[Daemon]:
    """A daemon that is stopped at the end."""
    daemon = Daemon(data, *arguments, env=env).start()
    try:
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            # One that builds would first have to be waited for.
            if daemon.query("SELECT id FROM build WHERE status IN ('QUEUED', 'BUILDING')"):
                daemon.kill()
            else:
                assert daemon.stop() == 0, daemon.output.read_text()
        daemon.client.close()
