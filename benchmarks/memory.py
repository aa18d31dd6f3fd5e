"""Peak memory of the engine's processes, and a repeated solve on a very large channel."""

from functools import partial

from benchmarks.bare import BareEngine, Hand
from benchmarks.measure import Table, seconds
from benchmarks.scene import Scene, Specification, run
from devtools.localchannel.server import serve
from devtools.localchannel.synthetic import DEFAULT_RECORDS, TYPICAL_REQUEST

MB = 1e6
QUICK_RECORDS = 60_000
OTHER_REQUEST = ("python 3.12.*", "scipy", "matplotlib", "dask", "sqlalchemy")


def measure(scene: Scene) -> Table:
    """Builds by hand, cold and warm, and solves the same and other requests again and again."""
    table = scene.table("Memory of engine processes, and repeated solves", "the first solve")
    _builds(scene, table)
    _solves(scene, table)
    table.note("Of a build, the memory is that of its largest process: itself or a compiler.")
    return table


def _builds(scene: Scene, table: Table) -> None:
    cold, warm, fetched = [], [], []
    for _ in range(min(scene.rounds, 2)):
        hand = Hand(scene.fresh("hand"))
        solution = hand.solve(scene.reference)
        hand.close()
        cold.append(hand.install(scene.reference, solution)[1] / MB)
        warm.append(hand.install(scene.reference, solution)[1] / MB)
        with serve(scene.channel) as server:
            remote = {**scene.reference, "channels": [server.url]}
            hand = Hand(scene.fresh("hand"), bytecode=False)
            solution = hand.solve(remote)
            hand.close()
            fetched.append(hand.install(remote, solution)[1] / MB)
    table.value("build of the reference environment, cold, file://", cold, "MB", most=300)
    table.value("build of the reference environment, cold, http://", fetched, "MB", most=300)
    table.value("build of the reference environment, warm", warm, "MB", most=300)


def _solves(scene: Scene, table: Table) -> None:
    records = QUICK_RECORDS if scene.quick else DEFAULT_RECORDS
    with serve(scene.channel_of("synthetic", records)) as server:
        hand = Hand(scene.fresh("hand"))
        jobs = [
            hand.solve_job(_request(server.url, packages))
            for packages in (TYPICAL_REQUEST, OTHER_REQUEST)
        ]
        solver = BareEngine(hand.store.scratch)
        first = seconds(partial(solver.do, jobs[0]))
        same, other, resident = [], [], []
        for _ in range(scene.rounds):
            other.append(seconds(partial(solver.do, jobs[1])))
            same.append(seconds(partial(solver.do, jobs[0])))
            resident.append(solver.do(jobs[0])["rss_bytes"] / MB)
        solver.end()
    table.ratio(f"repeated solve, {records:,} records, http://", same, [first] * len(same))
    table.value("the same", same, "s", most=0.8)
    table.value("another request in between", other, "s")
    table.value("resident memory of that solver", resident, "MB")
    table.value("its peak", [solver.peak_bytes / MB], "MB")


def _request(channel: str, packages: tuple[str, ...]) -> Specification:
    return {"name": "request", "channels": [channel], "dependencies": list(packages)}


if __name__ == "__main__":
    run(measure)
