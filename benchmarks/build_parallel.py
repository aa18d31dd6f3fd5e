"""Builds at the same time: what they cost each other."""

import time
from dataclasses import dataclass

from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, build_seconds, running
from benchmarks.usage import cpu_seconds, family_cpu_seconds, idle_seconds, two_cores
from devtools.localchannel.server import ChannelServer, Fault, serve

CORES = 2
FOUR = "--CondaStoreWorker.concurrency=4"
# With this many bytes a second the slow package of any size outlasts the measurement.
SLOW = Fault(drip=20_000)
# Long enough that whatever two builds both need is asked for by both while the first has it.
LATE = Fault(delay=0.5)


def measure(scene: Scene) -> Table:
    """Runs different builds at once, one beside a slow download, and two that share packages."""
    table = scene.table(
        "Builds at the same time on two cores",
        "the sum of the builds' CPU time, divided by what other programs left of the two cores",
    )
    with two_cores():
        for number in range(min(scene.rounds, 2)):
            _four_builds(scene, table, number + 1)
        _beside_a_download(scene, table)
        _shared_packages(scene, table)
    return table


def _four_builds(scene: Scene, table: Table, number: int) -> None:
    with running(scene.fresh("data"), FOUR) as daemon:
        for state in ("cold, with byte code", "warm"):
            before = _Used.until_now(daemon)
            taken = build_seconds(daemon, *scene.parts)
            used = _Used.until_now(daemon) - before
            what = f"four builds, {state}, run {number}"
            table.ratio(what, [taken], [used.builds / (CORES - used.others / used.wall)], most=1.3)
            table.note(f"{what}, seconds of CPU: {used}")


@dataclass(frozen=True)
class _Used:
    """Seconds of the cores, and who had them."""

    wall: float
    builds: float
    daemon: float
    here: float
    idle: float

    @classmethod
    def until_now(cls, daemon: Daemon) -> "_Used":
        builds = family_cpu_seconds(daemon.pid)
        own = cpu_seconds(daemon.pid), time.process_time()
        return cls(time.monotonic(), builds, *own, idle_seconds())

    @property
    def others(self) -> float:
        """What other programs had, the kernel's own threads among them."""
        return max(CORES * self.wall - self.builds - self.daemon - self.here - self.idle, 0.0)

    def __sub__(self, other: "_Used") -> "_Used":
        return _Used(
            self.wall - other.wall,
            self.builds - other.builds,
            self.daemon - other.daemon,
            self.here - other.here,
            self.idle - other.idle,
        )

    def __str__(self) -> str:
        return (
            f"builds {self.builds:.1f}, daemon {self.daemon:.2f}, this program {self.here:.2f}, "
            f"others {self.others:.1f}, nobody {self.idle:.1f}"
        )


def _beside_a_download(scene: Scene, table: Table) -> None:
    """Times a build that needs nothing but the store, alone and while another one downloads."""
    slow_part = scene.part("plots")["dependencies"][-1]
    cached = scene.part("science")
    beside, alone = [], []
    with (
        serve(scene.channel, faults={f"*/{slow_part}-*": SLOW}) as server,
        running(scene.fresh("data"), FOUR) as daemon,
    ):
        build_seconds(daemon, cached)
        for _ in range(max(scene.rounds, 3)):
            alone.append(build_seconds(daemon, cached))
            build_id = daemon.submit(scene.part("plots", server.url))
            _wait_for_request(server, slow_part)
            beside.append(build_seconds(daemon, cached))
            daemon.request("PUT", f"/build/{build_id}/cancel/").raise_for_status()
            assert daemon.ended(build_id)["status"] == "CANCELED"
    table.excess("a cached build beside a download / alone", beside, alone, most=0.3)


def _wait_for_request(server: ChannelServer, package: str) -> None:
    while not any(f"/{package}-" in path for path in server.requests):
        time.sleep(0.01)
    server.requests.clear()


def _shared_packages(scene: Scene, table: Table) -> None:
    with (
        serve(scene.channel, faults={"*.conda": LATE}) as server,
        running(scene.fresh("data"), FOUR) as daemon,
    ):
        parts = [scene.part(name, server.url) for name in ("science", "plots")]
        build_seconds(daemon, *parts)
        both = len(set.intersection(*(_package_names(daemon, part["name"]) for part in parts)))
        requests = [n for path, n in server.requests.items() if path.endswith(".conda")]
    what = f"most requests for one package; {both} are in both of two builds"
    table.value(what, [max(requests)], "", most=1)


def _package_names(daemon: Daemon, environment: str) -> set[str]:
    build_id = daemon.data_of(f"/environment/default/{environment}/")["current_build_id"]
    return {row["name"] for row in daemon.data_of(f"/build/{build_id}/packages/?size=500")}


if __name__ == "__main__":
    run(measure)
