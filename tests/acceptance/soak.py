"""`scripts/soak MINUTES`: users who do all that users do, while things break; nothing may grow.

In the first half children and the daemon are killed. In the second the daemon lives, so that what
it takes can be compared; children still die and connections still break. At the end everything is
deleted, and the disk must hold as many files as after a single build was.
"""

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import WebSocketException

from tests.acceptance.crash_matrix import small_channel
from tests.acceptance.harness import Daemon, assert_becomes_clean, eventually
from tests.acceptance.oracle import assert_sound
from tests.acceptance.stories import channels, stopped

BREAK_EVERY_S = 10.0
SAMPLE_EVERY_S = 5.0
# What many users asked for is done one after the other.
DRAIN_S = 1800.0
ENVIRONMENTS = 3
FORMS = ("CONDA_PACK", "DOCKER_MANIFEST")
# What the last third of the steady half may take more than the first.
MORE_BYTES, MORE_DESCRIPTORS = 16 * 2**20, 20


@dataclass(frozen=True)
class Sample:
    """What a daemon takes at a moment."""

    at_s: float
    pid: int
    resident_bytes: int
    descriptors: int
    children: int
    files: int


class User:
    """Somebody who does something or other, again and again, and is never surprised."""

    def __init__(self, daemon: Daemon, channel: str, number: int) -> None:
        self._daemon = daemon
        self._channel = channel
        self._number = number
        self._chance = random.Random(number)
        self._builds: list[int] = []
        self.done: Counter[str] = Counter()

    def live(self, until: float) -> None:
        """Does things until a time of the monotonic clock."""
        acts = [self.submit, self.submit, self.tail, self.leave, self.cancel, self.read, self.make]
        acts += [self.delete_build, self.delete_environment]
        while time.monotonic() < until:
            act = self._chance.choice(acts)
            # The daemon dies at times, and says nothing to those who ask it meanwhile.
            with suppress(httpx.TransportError, OSError, WebSocketException):
                act()
                self.done[act.__name__] += 1
            time.sleep(self._chance.random())

    def submit(self) -> None:
        name = f"user-{self._number}-{self._chance.randrange(ENVIRONMENTS)}"
        package = self._chance.choice(["harmless", "harmless", "missing"])
        answer = self._daemon.post(wanted(self._channel, name, package))
        self._check(answer)
        if answer.status_code == 200:
            self._builds = [*self._builds[-9:], answer.json()["data"]["build_id"]]

    def tail(self) -> None:
        if self._builds:
            with self._daemon.socket(self._builds[-1]) as log:
                for _ in log:
                    pass

    def leave(self) -> None:
        """Breaks a connection off in the middle of an answer."""
        if self._builds:
            url = f"{self._daemon.url}/api/v1/build/{self._builds[-1]}/logs/?follow=1"
            with self._daemon.client.stream("GET", url, follow_redirects=True) as answer:
                next(answer.iter_raw(100), None)

    def cancel(self) -> None:
        self._on_a_build("PUT", "cancel/")

    def delete_build(self) -> None:
        self._on_a_build("DELETE", "")

    def read(self) -> None:
        for path in ("", "packages/", "lockfile/", "yaml/", "logs/"):
            self._on_a_build("GET", path)
        for page in ("/", "/ui/", "/metrics"):
            answer = self._daemon.client.get(f"{self._daemon.url}{page}", follow_redirects=True)
            self._check(answer)

    def make(self) -> None:
        self._on_a_build("POST", f"artifacts/{self._chance.choice(FORMS)}/")

    def delete_environment(self) -> None:
        name = f"user-{self._number}-{self._chance.randrange(ENVIRONMENTS)}"
        self._check(self._daemon.request("DELETE", f"/environment/default/{name}/"))

    def _on_a_build(self, method: str, path: str) -> None:
        if self._builds:
            build_id = self._chance.choice(self._builds)
            path = f"/build/{build_id}/{path}"
            self._check(self._daemon.request(method, path, follow_redirects=True))

    def _check(self, answer: httpx.Response) -> None:
        """What is not done yet, or deleted, is refused; nothing breaks the daemon."""
        assert answer.status_code < 500 or answer.status_code == 503, (answer.request, answer.text)


class Soak:
    """One soak, on one daemon."""

    def __init__(self, daemon: Daemon, channel: str, users: int) -> None:
        self._daemon = daemon
        self._channel = channel
        self._began = time.monotonic()
        self._chance = random.Random(0)
        self._over = threading.Event()
        self.users = [User(daemon, channel, number) for number in range(users)]
        self.samples: list[Sample] = []
        self.broken: Counter[str] = Counter()

    def run(self, seconds: float) -> None:
        """Lets users live for so long while things break. Raises what surprised anybody."""
        self._began = time.monotonic()
        half, end = self._began + seconds / 2, self._began + seconds
        with ThreadPoolExecutor(len(self.users) + 2) as threads:
            watching = [threads.submit(self._break, half), threads.submit(self._sample)]
            lives = [threads.submit(user.live, end) for user in self.users]
            try:
                for life in lives:
                    life.result()
            finally:
                self._over.set()
            for one in watching:
                one.result()

    def warm_up(self) -> None:
        """Has everything made once, for what of it is kept."""
        build_id = self._daemon.submit(wanted(self._channel, "first", "harmless"))
        self._daemon.completed(build_id)
        for form in FORMS:
            self._daemon.request("POST", f"/build/{build_id}/artifacts/{form}/")
            self._daemon.made(build_id, form)

    def empty(self) -> set[Path]:
        """Deletes everything; returns what files and directories there are then.

        But no blobs: they stay for a day after the last image that needed them.
        """
        for environment in self._daemon.data_of("/environment/?size=1000"):
            path = f"/environment/default/{environment['name']}/"
            assert self._daemon.request("DELETE", path).status_code in (200, 404)
        waiting = (
            "SELECT kind, state, attempts, error FROM task WHERE state IN ('QUEUED', 'RUNNING')"
        )
        query = partial(self._daemon.query, waiting)
        eventually(lambda: not query(), DRAIN_S, what=query)
        assert_becomes_clean(self._daemon)
        return {path for path in self._files() if "blobs" not in path.parts}

    def steady(self) -> list[Sample]:
        """Returns the samples of the daemon that lived to the end, once it has done everything."""
        last = [sample for sample in self.samples if sample.pid == self.samples[-1].pid]
        return last[len(last) // 3 :]

    def _break(self, half: float) -> None:
        while not self._over.wait(BREAK_EVERY_S):
            children = self._daemon.processes()
            if time.monotonic() < half and self._chance.random() < 0.2:
                self.broken["daemons"] += 1
                self._daemon.kill()
                self._daemon.start()
            elif children:
                self.broken["children"] += 1
                with suppress(ProcessLookupError):
                    os.kill(int(self._chance.choice(children).split()[0]), signal.SIGKILL)

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_EVERY_S):
            pid = self._daemon.pid
            # It may have been killed a moment ago.
            with suppress(OSError, StopIteration):
                status = Path(f"/proc/{pid}/status").read_text().splitlines()
                resident = next(line for line in status if line.startswith("VmRSS"))
                self.samples.append(
                    Sample(
                        time.monotonic() - self._began,
                        pid,
                        int(resident.split()[1]) * 1024,
                        len(os.listdir(f"/proc/{pid}/fd")),
                        len(self._daemon.processes()),
                        len(self._files()),
                    )
                )
                print(self.samples[-1], flush=True)

    def _files(self) -> set[Path]:
        return set(self._daemon.data.rglob("*"))


def wanted(channel: str, name: str, package: str) -> dict[str, Any]:
    """Returns the specification of an environment of one package."""
    return {"name": name, "channels": [channel], "dependencies": [package]}


def compared(samples: list[Sample], what: Callable[[Sample], int]) -> tuple[float, float]:
    """Returns the median of the first third of some samples, and that of the last."""
    third = len(samples) // 3
    first, last = samples[:third], samples[-third:]
    return statistics.median(map(what, first)), statistics.median(map(what, last))


def main() -> int:
    """Runs a soak; returns 1 if anything has grown or the event loop was held up.

    Raises `AssertionError` if anything broke.
    """
    parser = argparse.ArgumentParser(prog="scripts/soak", description=__doc__)
    parser.add_argument("minutes", type=float)
    parser.add_argument("--users", type=int, default=20)
    arguments = parser.parse_args()
    # It stays if anything is wrong.
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    print(f"in {directory}")
    with (
        channels(directory, small_channel()) as made,
        stopped(directory / "data", "--CondaStoreWorker.max_attempts=100") as daemon,
    ):
        daemon.start()
        soak = Soak(daemon, made.tiny, arguments.users)
        soak.warm_up()
        before = soak.empty()
        soak.run(arguments.minutes * 60)
        after = soak.empty()
        assert_sound(daemon)
        stalls = daemon.output.read_text().count("the event loop was held up")
    steady = soak.steady()
    resident = compared(steady, lambda sample: sample.resident_bytes)
    descriptors = compared(steady, lambda sample: sample.descriptors)
    print(f"done: {dict(sum((user.done for user in soak.users), Counter()))}")
    print(f"broken: {dict(soak.broken)}; steady for {steady[-1].at_s - steady[0].at_s:.0f} s")
    print(f"resident MB: {resident[0] / 1e6:.1f}, at last {resident[1] / 1e6:.1f}")
    print(f"descriptors: {descriptors[0]:.0f}, at last {descriptors[1]:.0f}")
    print(f"files when all is deleted: {len(before)}, at last {len(after)}")
    print(f"the event loop was held up (see the daemon's log): {stalls}")
    for path in sorted(after - before) if len(after) > len(before) else ():
        print(f"new: {path}")
    grown = (
        resident[1] > resident[0] + MORE_BYTES,
        descriptors[1] > descriptors[0] + MORE_DESCRIPTORS,
        len(after) > len(before),
    )
    if stalls or any(grown):
        return 1
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
