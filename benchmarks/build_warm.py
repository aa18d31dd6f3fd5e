"""A build whose packages and byte code are there already: what the daemon adds to its engine."""

import os
import shutil
import subprocess
from functools import partial
from pathlib import Path

from benchmarks.bare import Hand
from benchmarks.measure import Table, seconds
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, build_seconds, running
from condastore.engine.confine import limit

TITLE = "Warm build of the reference environment, from POST to COMPLETED with the link moved"
BASELINE = "the same solve and build jobs in engine processes started by hand, with a warm solver"


def measure(scene: Scene) -> Table:
    """Builds through the daemon, by hand, and by copying links, in turns."""
    table = scene.table(TITLE, BASELINE)
    data = scene.fresh("data")
    with running(data) as daemon:
        hand = Hand(data)
        build_seconds(daemon, scene.reference)
        hand.build(scene.reference)
        served, bare, copied, conda = [], [], [], []
        for number in range(scene.rounds):
            served.append(build_seconds(daemon, scene.reference))
            bare.append(seconds(partial(hand.build, scene.reference)))
            copied.append(_copy_seconds(daemon, number))
        hand.close()
        if shutil.which("conda"):
            conda = _conda_seconds(scene)
    table.ratio("daemon / engine by hand", served, bare, most=1.5)
    table.ratio("daemon / cp -al of the result", served, copied, most=2.5)
    table.ratio("engine by hand / cp -al", bare, copied)
    if conda:
        table.ratio("daemon / conda create", served, conda, most=1 / 15)
    else:
        table.note("skipped: there is no conda on this machine to compare with")
    return table


def _copy_seconds(daemon: Daemon, number: int) -> float:
    prefix = Path(os.readlink(daemon.link("reference")))
    copy = prefix.with_name(f"copy-{number}")
    copying = partial(
        subprocess.run,
        ["cp", "-al", prefix, copy],
        check=True,
        # As nice as a build, which else would lose on a busy machine.
        start_new_session=True,
        preexec_fn=partial(limit, "build", None),
    )
    return seconds(copying)


def _conda_seconds(scene: Scene) -> list[float]:
    """Times `conda create` of the same list, once its packages are cached."""
    root = scene.fresh("conda")
    environment = {**os.environ, "CONDA_PKGS_DIRS": str(root / "pkgs")}
    command = ["conda", "create", "--yes", "--quiet", "--override-channels"]
    command += ["--channel", scene.reference["channels"][0], *scene.reference["dependencies"]]

    def create(number: int) -> None:
        prefix = ["--prefix", str(root / str(number))]
        subprocess.run([*command, *prefix], env=environment, check=True, stdout=subprocess.DEVNULL)

    create(-1)
    return [seconds(partial(create, number)) for number in range(scene.rounds)]


if __name__ == "__main__":
    run(measure)
