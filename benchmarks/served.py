"""Builds through a real daemon, timed from outside."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.measure import seconds
from benchmarks.scene import Specification
from tests.acceptance.harness import ENDED, Daemon, running

__all__ = [
    "ENDED",
    "Daemon",
    "Lock",
    "build_seconds",
    "locked_build_seconds",
    "running",
]

POLL_S = 0.002
STATUS_POLL_S = 1.0


@dataclass(frozen=True)
class Lock:
    """The lockfile of a build, to be built again as an environment of its own."""

    text: str
    name: str = "locked"

    @classmethod
    def of(cls, daemon: Daemon, name: str) -> "Lock":
        """Returns the lockfile of an environment's current build."""
        return cls(daemon.request("GET", f"/environment/default/{name}/lockfile/").text)

    def submit(self, daemon: Daemon) -> int:
        """Posts it; returns the build's id."""
        return daemon.submit(self.text, is_lockfile=True, environment_name=self.name)


def build_seconds(daemon: Daemon, *specifications: Specification) -> float:
    """Returns the time from the first POST until the links of all lead to the new builds."""
    posts = [partial(daemon.submit, specification) for specification in specifications]
    return _timed(daemon, [specification["name"] for specification in specifications], posts)


def locked_build_seconds(daemon: Daemon, lock: Lock) -> float:
    """Returns the same for a build of a lockfile."""
    return _timed(daemon, [lock.name], [partial(lock.submit, daemon)])


def _timed(daemon: Daemon, names: Sequence[str], posts: Sequence[Callable[[], int]]) -> float:
    links = [daemon.link(name) for name in names]
    before = [_target(link) for link in links]
    build_ids: list[int] = []

    def build() -> None:
        build_ids.extend(post() for post in posts)
        looked = time.monotonic()
        # The links are asked, because answers would cost the daemon time that is measured.
        while any(_target(link) == old for link, old in zip(links, before, strict=True)):
            time.sleep(POLL_S)
            if time.monotonic() > looked + STATUS_POLL_S:
                looked = time.monotonic()
                _check(daemon, build_ids)

    taken = seconds(build)
    for build_id in build_ids:
        daemon.completed(build_id)
    return taken


def _check(daemon: Daemon, build_ids: Sequence[int]) -> None:
    for build_id in build_ids:
        if daemon.build(build_id)["status"] in ENDED:
            daemon.completed(build_id)


def _target(link: Path) -> str | None:
    return os.readlink(link) if link.is_symlink() else None
