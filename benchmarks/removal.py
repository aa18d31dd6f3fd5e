"""What a removal costs whoever asks for it, and whoever builds meanwhile."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.scene import Scene, run
from benchmarks.served import Daemon, Lock, build_seconds, locked_build_seconds, running

SLOWER = 1.2
ANSWER_S = 0.1
POLL_S = 0.02
PATIENCE_S = 600

FREED = (
    "SELECT json_extract(result, '$.freed_bytes') FROM task "
    "WHERE kind = 'delete_environment' AND state = 'DONE'"
)


def measure(scene: Scene) -> Table:
    """Builds a lockfile in turns alone and while a copy of the reference is being removed."""
    table = scene.table("Removing the reference environment", "the same build, alone")
    answers, gone, alone, beside, emptied, rates = [], [], [], [], [], []
    with running(scene.fresh("data")) as daemon:
        build_seconds(daemon, scene.reference)
        lock = Lock.of(daemon, "reference")
        doomed = Lock(lock.text, "doomed")
        locked_build_seconds(daemon, lock)
        for _ in range(scene.rounds):
            locked_build_seconds(daemon, doomed)
            files = sum(1 for _ in _files(daemon.link("doomed").resolve()))
            alone.append(locked_build_seconds(daemon, lock))
            began = time.perf_counter()
            answer = daemon.request("DELETE", "/environment/default/doomed/")
            answers.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
            _wait(lambda: not daemon.link("doomed").is_symlink() and _trash(daemon))
            gone.append(time.perf_counter() - began)
            beside.append(locked_build_seconds(daemon, lock))
            if not _trash(daemon):
                table.note("the removal was over before the build was: it says less")
            _wait(lambda: not _trash(daemon))
            emptied.append(time.perf_counter() - began)
            rates.append(files / emptied[-1])
        # The last task ends a moment after its files are gone.
        _wait(lambda: len(daemon.query(FREED)) == scene.rounds)
        freed = daemon.query(FREED)
    table.ratio("a warm build beside it / alone", beside, alone, most=SLOWER)
    table.value("DELETE answers", answers, "s", most=ANSWER_S)
    table.value("the prefix is gone", gone, "s")
    table.value("its bytes are free", emptied, "s")
    table.value("files and links a second", rates, "")
    table.value("bytes that came free", [row[0] / 1e6 for row in freed], "MB")
    return table


def _files(prefix: Path) -> Iterator[Path]:
    return (path for path in prefix.rglob("*") if path.is_symlink() or not path.is_dir())


def _trash(daemon: Daemon) -> list[Path]:
    return list((daemon.store / ".trash").iterdir())


def _wait(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(POLL_S)


if __name__ == "__main__":
    run(measure)
