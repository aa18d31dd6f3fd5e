"""Several daemons on one PostgreSQL, Redis, store and S3: they share the queue, and one may die."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis
from websockets.sync.client import ClientConnection

from condastore.tasks import LEASE_S
from devtools.faultproxy import Silence, Trouble, proxied
from devtools.localchannel.server import ChannelServer, Fault, serve
from devtools.servers import PostgreSQLServer, RedisServer, S3Server
from devtools.servers import running as serving
from tests.acceptance.clocks import LIBRARY, Clock
from tests.acceptance.harness import Daemon, eventually
from tests.databases import postgresql_server
from tests.patience import PATIENCE_S, soon

RUNNING = "SELECT count(*) FROM task WHERE kind = 'build' AND state = 'RUNNING'"
SWITCHING = (
    "SELECT count(*) FROM task WHERE kind = 'update_environment_build' AND state = 'RUNNING'"
)
SECRET = "a-secret-that-all-daemons-have"


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[list[Daemon]]:
    """Two daemons, each with a data directory of its own."""
    with ExitStack() as stack:
        database = stack.enter_context(postgresql_server())
        bucket = S3Server(tmp_path / "s3")
        stack.enter_context(serving(bucket))
        redis = RedisServer(tmp_path / "redis")
        stack.enter_context(serving(redis))
        (tmp_path / "watched").mkdir()
        path = tmp_path / "config.py"
        path.write_text(configuration(tmp_path, redis, bucket))
        found = []
        for name in ("one", "two"):
            daemon = Shared(tmp_path / name, database, tmp_path / "store", f"--config={path}")
            found.append(daemon.start())
            stack.callback(daemon.client.close)
            stack.callback(daemon.kill)
        yield found


class Shared(Daemon):
    """A daemon whose database and store are not in its data directory."""

    def __init__(
        self, data: Path, database: PostgreSQLServer, store: Path, *arguments: str
    ) -> None:
        url = f"--CondaStore.database_url={database.url()}"
        super().__init__(data, url, *arguments)
        self._shared_store = store

    @property
    def store(self) -> Path:
        return self._shared_store


def configuration(directory: Path, redis: RedisServer, bucket: S3Server) -> str:
    lines = [
        f"c.AuthenticationBackend.secret = {SECRET!r}",
        f"c.CondaStore.store_directory = {str(directory / 'store')!r}",
        "c.CondaStore.storage_class = 'condastore.storage.S3Storage'",
        f"c.CondaStore.redis_url = {redis.url!r}",
        "c.CondaStoreWorker.concurrency = 1",
        "c.CondaStoreWorker.warm_solvers = 0",
        f"c.CondaStoreWorker.watch_paths = [{str(directory / 'watched')!r}]",
    ]
    lines += [f"c.S3Storage.{name} = {value!r}" for name, value in bucket.settings().items()]
    return "\n".join(lines)


def children(daemon: Daemon) -> list[str]:
    """Returns the processes that a daemon has started."""
    return Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()


def ending(daemon: Daemon, build_id: int) -> str:
    """Reads a log to its end; returns the status that it ends with."""
    with daemon.socket(build_id) as socket:
        frames = [json.loads(frame) for frame in socket]
    status: str = frames[-1]["status"]
    return status


def builds_of(daemon: Daemon, name: str) -> int:
    """Returns how many builds an environment has."""
    named = f"JOIN environment e ON e.id = b.environment_id WHERE e.name = '{name}'"
    count: int = daemon.query(f"SELECT count(*) FROM build b {named}")[0][0]
    return count


def test_the_queue_is_shared_and_the_work_of_a_dead_daemon_taken_over(
    daemons: list[Daemon], server: ChannelServer, tiny: str, tmp_path: Path
) -> None:
    one, two = daemons
    watched = {"channels": [tiny], "dependencies": ["harmless"]}
    (tmp_path / "watched" / "a.yml").write_text(json.dumps({"name": "a", **watched}))
    harmless = {"channels": [tiny], "dependencies": ["harmless"]}
    builds = [one.submit({"name": f"env{number}", **harmless}) for number in range(4)]
    for build_id in builds:
        two.completed(build_id)
    assert two.query("SELECT DISTINCT attempts FROM task WHERE kind = 'build'") == [(1,)]
    for daemon in daemons:
        for build_id in builds:
            assert "harmless" in daemon.request("GET", f"/build/{build_id}/yaml/").text
            assert "is default/env" in daemon.log(build_id)

    # One of them watches files.
    eventually(lambda: builds_of(one, "a"))

    # Each runs one build at a time, so both work.
    server.faults["*.conda"] = Fault(drip=2_000)
    slow = {"name": "slow", "channels": [server.url], "dependencies": ["python"]}
    both = [one.submit(slow), one.submit({**slow, "name": "slower"})]
    for build_id in both:
        # Both show their logs while they run, also the one that does not run it.
        for daemon in daemons:
            daemon.wait_for_event(build_id, "fetch")
            assert "starting build" in daemon.log(build_id)
    owners = two.query("SELECT DISTINCT lease_owner FROM task WHERE state = 'RUNNING'")
    assert len(owners) == 2, "both work"
    # Through this daemon, which runs one of them, both are cancelled at once.
    began = time.monotonic()
    for build_id in both:
        one.cancel(build_id)
    for build_id in both:
        assert one.ended(build_id)["status"] == "CANCELED"
    assert time.monotonic() - began < soon(5, 9)

    # The lease of one is lost; who reads the log there reads on where the build goes on.
    server.requests.clear()
    build_id = one.submit({**slow, "name": "stolen"})
    eventually(lambda: one.build(build_id)["status"] == "BUILDING")
    with ThreadPoolExecutor(2) as readers:
        reading = [readers.submit(ending, daemon, build_id) for daemon in daemons]
        for daemon in daemons:
            daemon.wait_for_event(build_id, "fetch")
        # What has begun stays slow; the next attempt is not.
        eventually(lambda: any("/python-3" in path for path in server.requests))
        server.faults.clear()
        two.query(
            "UPDATE task SET state = 'QUEUED', lease_owner = NULL, lease_until = NULL "
            f"WHERE kind = 'build' AND build_id = {build_id}"
        )
        two.query("NOTIFY condastore_queued")
        eventually(
            lambda: (
                two.query(
                    f"SELECT attempts FROM task WHERE kind = 'build' AND build_id = {build_id}"
                )
                == [(2,)]
            ),
        )
        assert [found.result(timeout=120) for found in reading] == ["COMPLETED"] * 2
    server.faults["*.conda"] = Fault(drip=2_000)

    # And one daemon dies with its build, which the other one finishes.
    build_id = one.submit({**slow, "name": "orphan"})
    one.wait_for_event(build_id, "fetch")
    # The other may still tidy up.
    eventually(lambda: len([daemon for daemon in daemons if children(daemon)]) == 1)
    [dead] = [daemon for daemon in daemons if children(daemon)]
    [alive] = [daemon for daemon in daemons if daemon is not dead]
    dead.kill()
    (tmp_path / "watched" / "b.yml").write_text(json.dumps({"name": "b", **watched}))
    server.faults.clear()
    # So that nobody has to wait for all of its lease.
    elapsed = "UPDATE task SET lease_until = lease_until - 25 WHERE state = 'RUNNING'"
    assert alive.query(f"{elapsed} RETURNING id")
    build = alive.ended(build_id)
    assert build["status"] == "COMPLETED", alive.log(build_id)
    assert alive.query(f"SELECT attempts FROM task WHERE build_id = {build_id}") == [(2,)]

    eventually(lambda: builds_of(alive, "b"))
    dead.start()
    assert [builds_of(alive, name) for name in "ab"] == [1, 1]
    assert "is default/orphan" in dead.log(build_id)
    assert [daemon.stop() for daemon in daemons] == [0, 0]
    # What its child had put aside goes when a daemon is alone on the store.
    alive.start()
    eventually(lambda: alive.litter() == [], what=alive.litter)
    assert alive.stop() == 0


def test_a_daemon_that_was_stopped_does_not_switch_a_link_back(tmp_path: Path, tiny: str) -> None:
    """Just before it switches a link it stands still for longer than its lease."""
    wanted = {"name": "env", "channels": [tiny], "dependencies": ["harmless"]}
    with postgresql_server() as database, ExitStack() as stack:
        stopped, other = two_on_one_disk(tmp_path, database, concurrency=2)
        for daemon in (stopped, other):
            stack.callback(daemon.client.close)
        stopped.start(CONDASTORE_FAULT="build.link*:*:kill:STOP")
        stack.callback(stopped.kill)
        link = stopped.link("env")
        old = stopped.submit(wanted)
        seen = [target_when_held(stopped, link)]

        # Its lease ends, and so do its connections; the other one gets its build.
        database.kill()
        database.start()
        stopped.query(
            "UPDATE task SET state = 'QUEUED', lease_owner = NULL, lease_until = NULL "
            "WHERE state = 'RUNNING'"
        )
        other.start()
        stack.callback(other.kill)
        new = other.submit(wanted)
        eventually(lambda: stopped.query("SELECT current_build_id FROM environment") == [(new,)])
        # Whether it waits for the stopped one, or has gone on without.
        waits = "does not go on"
        eventually(
            lambda: (
                waits in other.output.read_text()
                or [other.build(each)["status"] for each in (old, new)] == ["COMPLETED"] * 2
            )
        )
        assert f"process {stopped.pid} on " in other.output.read_text()
        # Whoever does not want to wait, does not; the link follows later.
        other.cancel(new)
        other.completed(new)
        assert f"process {stopped.pid} on " in other.log(new)
        eventually(lambda: other.query(SWITCHING) == [(1,)])
        seen.append(target(link))
        os.kill(stopped.pid, signal.SIGCONT)
        seen.append(target_when_held(stopped, link))
        os.kill(stopped.pid, signal.SIGCONT)

        other.completed(old)
        eventually(lambda: other.query(SWITCHING) == [(0,)])
        for daemon in (stopped, other):
            assert daemon.stop() == 0, daemon.output.read_text()
        seen.append(target(link))
        prefixes = dict(
            other.query("SELECT key, build_id FROM build_artifact WHERE artifact_type='DIRECTORY'")
        )
        # When it is looked at, the other one may have switched it once more.
        found = [prefixes.get(each, 0) for each in seen]
        assert found in ([0, 0, old, new], [0, 0, new, new])


def two_on_one_disk(
    directory: Path, database: PostgreSQLServer, *arguments: str, concurrency: int
) -> list[Daemon]:
    """Two daemons that don't run yet, with one store and one directory of artifacts."""
    options = [
        f"--CondaStore.store_directory={directory / 'store'}",
        f"--LocalStorage.storage_path={directory / 'storage'}",
        f"--AuthenticationBackend.secret={SECRET}",
        f"--CondaStoreWorker.concurrency={concurrency}",
        *arguments,
    ]
    return [Shared(directory / name, database, directory / "store", *options) for name in "ab"]


def target(link: Path) -> str:
    """Returns where a link leads to, or nothing."""
    return os.readlink(link) if link.is_symlink() else ""


def target_when_held(daemon: Daemon, link: Path) -> str:
    """Returns where a link leads to when a daemon next holds at a fault point."""
    eventually(lambda: daemon.is_stopped)
    return target(link)


@pytest.mark.skipif(
    LIBRARY is None, reason="there is no libfaketime on this machine to set its clock with"
)
def test_F49_leases_are_of_the_databases_clock(tmp_path: Path, server: ChannelServer) -> None:
    fetched = threading.Event()
    server.faults["*.conda"] = Fault(until=fetched)
    wanted = {"name": "env", "channels": [server.url], "dependencies": ["python"]}
    clock = Clock(tmp_path / "clock")
    with postgresql_server() as database, ExitStack() as stack:
        daemons = right, wrong = two_on_one_disk(tmp_path, database, concurrency=1)
        clock.put(300)
        builds = []
        for daemon, env in ((right, {}), (wrong, clock.environment)):
            stack.callback(daemon.client.close)
            # When it starts it looks for the work of daemons that are gone.
            daemon.start(**env)
            stack.callback(daemon.kill)
            builds.append(daemon.submit(wanted))
            eventually(lambda: right.query(RUNNING) == [(len(builds),)])
        [(shortest, longest)] = right.query(
            "SELECT min(rest), max(rest) FROM (SELECT lease_until - "
            "extract(epoch FROM clock_timestamp()) rest FROM task WHERE state = 'RUNNING') leases"
        )
        assert 0 < shortest <= longest <= LEASE_S
        fetched.set()
        for build_id in builds:
            right.completed(build_id)
        assert right.query("SELECT DISTINCT attempts FROM task WHERE kind = 'build'") == [(1,)]
        assert [daemon.stop() for daemon in daemons] == [0, 0]


def test_F42_redis_costs_latency_and_never_truth(tmp_path: Path, hostile_directory: Path) -> None:
    """I7: it is absent at the start, dies, restarts empty, is slow, is silent, is full."""
    redis = RedisServer(tmp_path / "redis")
    with postgresql_server() as database, proxied(redis.port) as proxy, ExitStack() as stack:
        option = f"--CondaStore.redis_url={redis.url}".replace(f":{redis.port}/", f":{proxy.port}/")
        daemons = two_on_one_disk(tmp_path, database, option, concurrency=1)
        for daemon in daemons:
            stack.callback(daemon.client.close)
            daemon.start()
            stack.callback(daemon.kill)

        for daemon in daemons:
            assert "redis can't be used" in redis_problem(daemon)
        with followed(daemons, hostile_directory, is_live=False):
            pass

        redis.start()
        stack.callback(redis.kill)
        with followed(daemons, hostile_directory):
            redis.kill()

        redis.start()
        with followed(daemons, hostile_directory):
            redis.kill()
            redis.start()

        proxy.trouble.delay_s = 0.1
        with followed(daemons, hostile_directory):
            proxy.trouble.silence = Silence.BOTH
            for daemon in daemons:
                wait_for_redis(daemon, "redis does not answer")
        proxy.trouble = Trouble()

        with Redis.from_url(redis.url) as client, followed(daemons, hostile_directory):
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1")
        assert [daemon.stop() for daemon in daemons] == [0, 0]


def redis_problem(daemon: Daemon) -> str:
    """Returns what a daemon, which must say that it works, says of Redis; nothing if that works."""
    return daemon.data_of("/health/")["redis"] or ""


def wait_for_redis(daemon: Daemon, problem: str) -> None:
    """Waits until a daemon says this of Redis, or with an empty text that it works."""
    eventually(
        lambda: redis_problem(daemon)[: len(problem) or None] == problem,
        what=lambda: redis_problem(daemon),
    )


@contextmanager
def followed(daemons: list[Daemon], channel: Path, *, is_live: bool = True) -> Iterator[None]:
    """A build that is held in its solve while its log is read through each daemon.

    In the end all must have heard what is stored, once; with `is_live` what there is so far before
    anything is done to Redis.
    """
    if is_live:
        for daemon in daemons:
            wait_for_redis(daemon, "")
    go_on = threading.Event()
    with serve(channel, faults={"*repodata*": Fault(until=go_on)}) as server, ExitStack() as stack:
        wanted = {"name": "env", "channels": [server.url], "dependencies": ["harmless"]}
        build_id = daemons[0].submit(wanted)
        sockets = [stack.enter_context(daemon.socket(build_id)) for daemon in daemons]
        eventually(lambda: server.requests)
        heard = [first_text(socket) if is_live else "" for socket in sockets]
        yield
        go_on.set()
        artifacts = daemons[0].completed(build_id)["build_artifacts"]
        heard = [text + rest(socket) for text, socket in zip(heard, sockets, strict=True)]
    [key] = [row["key"] for row in artifacts if row["artifact_type"] == "LOGS"]
    stored = daemons[0].store.parent / "storage" / key
    eventually(stored.exists)
    assert heard == [stored.read_text()] * 2
    assert "starting build" in heard[0] and "is default/env" in heard[0]
    assert [daemon.log(build_id) for daemon in daemons] == heard


def first_text(socket: ClientConnection) -> str:
    """Waits for the first text of a log and returns it."""
    while True:
        text: str = json.loads(socket.recv(timeout=PATIENCE_S)).get("text", "")
        if text:
            return text


def rest(socket: ClientConnection) -> str:
    """Returns the text that is still to come, of a log that must end well."""
    frames = [json.loads(frame) for frame in socket]
    assert frames[-1]["status"] == "COMPLETED"
    return "".join(frame.get("text", "") for frame in frames)
