"""A build that has to fetch and unpack every package: what the daemon adds to its engine."""

from functools import partial

from benchmarks.bare import Hand
from benchmarks.measure import Table, seconds
from benchmarks.scene import Scene, run
from benchmarks.served import build_seconds, running

TITLE = "Cold build of the reference environment, from POST to COMPLETED with the link moved"
BASELINE = "the same solve and build jobs in engine processes started by hand"
WITHOUT = "--CondaStore.compile_bytecode=False"


def measure(scene: Scene) -> Table:
    """Builds through a new daemon and by hand, in turns, each time with an empty store."""
    served, bare = [], []
    for _ in range(scene.rounds):
        served.append(_served_seconds(scene, WITHOUT))
        bare.append(_bare_seconds(scene, bytecode=False))
    table = scene.table(TITLE, BASELINE)
    table.ratio("daemon / engine by hand, no byte code", served, bare, most=1.3)
    compiled = [_served_seconds(scene)], [_bare_seconds(scene, bytecode=True)]
    table.ratio("the same with byte code, once", *compiled)
    return table


def _served_seconds(scene: Scene, *settings: str) -> float:
    with running(scene.fresh("data"), *settings) as daemon:
        return build_seconds(daemon, scene.reference)


def _bare_seconds(scene: Scene, *, bytecode: bool) -> float:
    hand = Hand(scene.fresh("hand"), bytecode=bytecode)
    taken = seconds(partial(hand.build, scene.reference))
    hand.close()
    return taken


if __name__ == "__main__":
    run(measure)
