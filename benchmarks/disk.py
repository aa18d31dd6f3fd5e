"""What a second build of the same lockfile adds to the disk."""

import os
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from benchmarks.served import Lock, build_seconds, locked_build_seconds, running

MIB = 1024**2
BLOCK = 512  # what st_blocks counts in, whatever the file system


def measure(scene: Scene) -> Table:
    """Builds a lockfile again and again, and counts the blocks of the whole data directory."""
    table = scene.table(
        "Disk blocks that a second build of the same lockfile adds",
        "the bytes of the environment",
    )
    data = scene.fresh("data")
    added: list[float] = []
    with running(data) as daemon:
        build_seconds(daemon, scene.reference)
        lock = Lock.of(daemon, "reference")
        locked_build_seconds(daemon, lock)
        for _ in range(scene.rounds):
            before = allocated(data)
            locked_build_seconds(daemon, lock)
            added.append((allocated(data) - before) / MIB)
        build = daemon.data_of("/build/?limit=1&sort_by=id&order=desc")[0]
        prefix = Path(os.readlink(daemon.link(lock.name)))
        links = [path.stat().st_nlink > 1 for path in prefix.rglob("__pycache__/*.pyc")]
    size = [build["size"] / MIB] * len(added)
    table.ratio("added by a build / its size", added, size, most=0.05, unit="MB")
    table.value("byte code files of its own", [100 * (1 - sum(links) / len(links))], "%", most=5)
    return table


def allocated(root: Path) -> int:
    """Returns the bytes of the blocks below a directory, each file once."""
    seen = set()
    total = 0
    directories = [os.fspath(root)]
    for directory in directories:
        total += os.lstat(directory).st_blocks * BLOCK
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                if status.st_ino not in seen:
                    seen.add(status.st_ino)
                    total += status.st_blocks * BLOCK
    return total


if __name__ == "__main__":
    run(measure)
