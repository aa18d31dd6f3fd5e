"""`scripts/crash-matrix`: each fault point, each of its passings, each way to die or to fail.

A case: a daemon with an armed fault point is told the story that passes it, dies or goes on; the
next daemon ends what was acknowledged; the oracle finds nothing; the same story is told again.
"""

import argparse
import asyncio
import fnmatch
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import httpx

from condastore.faults import STRUCK, VARIABLE
from devtools.localchannel import make_channel
from tests.acceptance.harness import (
    Daemon,
    DaemonDied,
    assert_becomes_clean,
    eventually,
    forked_daemons,
    is_clean,
)
from tests.acceptance.oracle import assert_sound
from tests.acceptance.power import Disk, PoweredDaemon, disk
from tests.acceptance.stories import (
    OF_UPGRADES,
    POINTS,
    Channels,
    Refused,
    Story,
    assert_nothing_half_built_is_visible,
    channels,
    dies,
    stopped,
    story_of,
)
from tests.conftest import CACHE
from tests.databases import fresh, postgresql_server

# The daemon dies, and with it what was not synced; only root can do that.
POWER = "power"
# A child of the daemon dies alone; only the points in children have that.
CHILD = "child"
ACTIONS = {
    "kill": "kill",
    CHILD: "die",
    "TERM": "kill:TERM",
    "ENOSPC": "raise:ENOSPC",
    "EDQUOT": "raise:EDQUOT",
    "EIO": "raise:EIO",
    POWER: "kill",
}
NOT_REACHED = "not reached"
SHOWN_CHARACTERS = 100
# A point that is passed without end would be a story that never ends.
MOST_PASSINGS = 20


@dataclass(frozen=True)
class Case:
    """One fault at one passing of one point, and what became of it."""

    point: str
    passing: int
    action: str
    happened: str
    seconds: float
    failed: bool

    def __str__(self) -> str:
        state = "FAILED" if self.failed else "ok"
        return (
            f"{self.point:22} {self.passing:2}  {self.action:6}  {state:6}  {self.seconds:5.1f} s"
            f"  {self.happened}"
        )


class Matrix:
    """Runs the cases, in directories below `root`; those of failed ones stay."""

    def __init__(self, root: Path, made: Channels, new_database: Callable[[], str | None]) -> None:
        self._root = root
        self._channels = made
        self._new_database = new_database

    def cases(self, points: list[str], actions: list[str]) -> Iterator[Case]:
        """Yields each case when it is over, up to the first passing that there is not."""
        for point in points:
            last = MOST_PASSINGS
            for action in actions:
                if action == CHILD and not point.startswith("engine."):
                    continue
                for passing in range(1, last + 1):
                    case = self._run(point, passing, action)
                    if case.happened == NOT_REACHED and passing > 1:
                        # The story is as long with any other fault.
                        last = passing - 1
                        break
                    yield case
                    if case.failed:
                        break

    def _run(self, point: str, passing: int, action: str) -> Case:
        root = Path(tempfile.mkdtemp(prefix=f"{point}-{passing}-{action}-", dir=self._root))
        began = time.monotonic()
        try:
            with disk(root) if action == POWER else nullcontext() as powered:
                happened = self._tell(root, powered, point, f"{point}:{passing}:{ACTIONS[action]}")
        except Exception as error:
            failed = True
            (root / "failure.txt").write_text(traceback.format_exc())
            happened = f"{type(error).__name__}: {shortened(str(error))}; see {root}"
        else:
            # A point that nothing passes is tested by nobody.
            failed = happened == NOT_REACHED and passing == 1
            shutil.rmtree(root)
        return Case(point, passing, action, happened, time.monotonic() - began, failed)

    def _tell(self, root: Path, powered: Disk | None, point: str, fault: str) -> str:
        kind = story_of(point)
        story, url = kind(self._channels), self._new_database()
        options = [] if url is None else [f"--CondaStore.database_url={url}"]
        place, daemons = (powered.path, PoweredDaemon) if powered else (root, Daemon)
        with stopped(place / "data", *options, daemons=daemons) as daemon:
            if story.has_past:
                daemon.start()
                story.prepare(daemon)
                assert_becomes_clean(daemon)
                daemon.stop()
            daemon.arguments = (*options, *story.options)
            happened = _broken(daemon, story, fault)
            if happened == NOT_REACHED:
                return happened
            if happened in ("died", "stopped"):
                if powered is not None:
                    powered.cut(daemon)
                daemon.start()
                story.tell(daemon)
            assert_sound(daemon)
            daemon.arguments = tuple(options)
            daemon.start()
            again = kind(self._channels)
            again.prepare(daemon)
            if story.options:
                assert_becomes_clean(daemon)
                daemon.stop()
                daemon.arguments = (*options, *story.options)
                daemon.start()
            again.tell(daemon)
            assert_sound(daemon)
            return happened


def _broken(daemon: Daemon, story: Story, fault: str) -> str:
    """Tells a story to a daemon with an armed fault; returns what became of it."""
    happened = "done"
    try:
        daemon.start(**{VARIABLE: fault})
        story.tell(daemon)
    except Refused as refusal:
        happened = f"refused: {shortened(str(refusal))}"
    except (httpx.TransportError, DaemonDied):
        happened = "died"
    # Some points are passed after the end of the story, and what failed is put away then.
    if happened != "died":
        assert_becomes_clean_or_dies(daemon)
    if f"{STRUCK}{fault}\n" not in daemon.output.read_text():
        assert happened == "done", happened
        return NOT_REACHED
    if fault.endswith(":TERM"):
        assert daemon.wait() == 0, daemon.output.read_text()
        return "stopped"
    if fault.endswith(":kill"):
        dies(daemon)
        assert_nothing_half_built_is_visible(daemon)
        return "died"
    assert happened != "died", daemon.output.read_text()
    return happened


def assert_becomes_clean_or_dies(daemon: Daemon) -> None:
    """Waits until a daemon has nothing more to do and has put everything away, or is dead."""
    process = daemon.process
    assert process is not None

    def is_over() -> bool:
        if process.poll() is not None:
            return True
        to_do = daemon.query("SELECT id FROM task WHERE state IN ('QUEUED', 'RUNNING')")
        return not to_do and is_clean(daemon)

    eventually(is_over, what=lambda: f"{daemon.litter()} {daemon.orphans()}")


def shortened(text: str) -> str:
    """Returns the beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= SHOWN_CHARACTERS else f"{line[:SHOWN_CHARACTERS]}..."


def main() -> int:
    """Runs the matrix; returns 1 if anything failed."""
    arguments = _arguments()
    told = [point for point in POINTS if point not in OF_UPGRADES]
    points = [point for point in told if fnmatch.fnmatch(point, arguments.point)]
    if not points:
        print(f"no fault point is called {arguments.point}; there are {', '.join(told)}")
        return 1
    cases = []
    with (
        forked_daemons(),
        _databases(arguments.database) as new_database,
        tempfile.TemporaryDirectory(prefix="condastore-channels-") as directory,
        channels(Path(directory), small_channel()) as made,
    ):
        root = Path(tempfile.mkdtemp(prefix="crash-matrix-"))
        for case in Matrix(root, made, new_database).cases(points, arguments.action):
            print(case, flush=True)
            cases.append(case)
    _print_table(cases, arguments.action)
    if not any(case.failed for case in cases):
        shutil.rmtree(root)
        return 0
    return 1


def _print_table(cases: list[Case], actions: list[str]) -> None:
    print(f"\n{'point':22} " + " ".join(f"{action:>12}" for action in actions))
    for point in dict.fromkeys(case.point for case in cases):
        cells = []
        for action in actions:
            some = [case for case in cases if (case.point, case.action) == (point, action)]
            bad = sum(case.failed for case in some)
            cells.append(f"{bad} of {len(some)} bad" if bad else f"{len(some)} ok")
        print(f"{point:22} " + " ".join(f"{cell:>12}" for cell in cells))
    failed = sum(case.failed for case in cases)
    print(f"{len(cases)} cases, {failed} failed, {sum(c.seconds for c in cases):.0f} s")


@contextmanager
def _databases(kind: str) -> Iterator[Callable[[], str | None]]:
    """A function that returns the URL of a new database, or None for SQLite."""
    if kind == "sqlite":
        yield lambda: None
        return
    with postgresql_server() as server:
        yield lambda: asyncio.run(fresh(server))


def small_channel() -> Path:
    """Returns the channel of that name, made once a machine."""
    return make_channel("small", CACHE / "channels" / "small", CACHE / "wheels")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/crash-matrix", description=__doc__)
    parser.add_argument("--point", default="*", help="a pattern, such as 'build.*'; default: all")
    parser.add_argument(
        "--action", action="append", choices=list(ACTIONS), help="may be repeated; default: all"
    )
    parser.add_argument("--database", default="sqlite", choices=["sqlite", "postgresql"])
    arguments = parser.parse_args()
    possible = [action for action in ACTIONS if action != POWER or os.geteuid() == 0]
    arguments.action = arguments.action or possible
    return arguments


if __name__ == "__main__":
    sys.exit(main())
