"""Runs the engine as the daemon does: as a child, with a job, watching its events."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.hostile import write_hostile
from tests.patience import PATIENCE_S

Event = dict[str, Any]
Job = dict[str, Any]
Record = dict[str, Any]

LIMITS = {
    "package_bytes": 1 << 30,
    "package_files": 100_000,
    "memory_bytes": 4 << 30,
    "disk_free_bytes": 1 << 20,
}


@dataclass
class Outcome:
    """What a child said until its end."""

    events: list[Event]
    status: int
    stderr: str

    @property
    def result(self) -> Event:
        """The last line of a job that went well."""
        assert self.events[-1]["t"] == "result", self.events[-1]
        return self.events[-1]

    @property
    def error(self) -> Event:
        """The last line of a job that failed."""
        assert self.events[-1]["t"] == "error", self.events[-1]
        return self.events[-1]

    @property
    def log(self) -> str:
        """All log lines."""
        return "\n".join(event["text"] for event in self.events if event["t"] == "log")

    @property
    def phases(self) -> list[str]:
        """The phases in the order in which they began."""
        return [event["phase"] for event in self.events if event["t"] == "phase"]


class Child:
    """A running child, started by what stands before it."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, before: Sequence[str | Path] = ()
    ) -> None:
        self._read_end, write_end = os.pipe()
        self.process = subprocess.Popen(
            [
                *before,
                *[sys.executable, "-I", "-m", "condastore.engine"],
                *["--events-fd", str(write_end), "--parent", str(os.getpid())],
            ],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[write_end],
            start_new_session=True,
            env=dict(environment or {}),
        )
        os.close(write_end)
        self._lines = os.fdopen(self._read_end, encoding="utf-8")
        self.events: list[Event] = []

    def send(self, job: Job) -> None:
        """Hands over one job."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, condition: Callable[[Event], bool]) -> Event:
        """Reads events until one that meets the condition."""
        for line in self._lines:
            self.events.append(json.loads(line))
            if condition(self.events[-1]):
                return self.events[-1]
        raise AssertionError(f"the child ended after {self.events[-1:]}")

    def finish(self) -> Outcome:
        """Reads all events and waits for the end."""
        assert self.process.stdin is not None and self.process.stderr is not None
        self.process.stdin.close()
        self.events += map(json.loads, self._lines)
        stderr = self.process.stderr.read().decode()
        return Outcome(self.events, self.process.wait(), stderr)

    def close(self) -> None:
        """Makes sure that nothing is left of the child."""
        self.process.kill()
        self.process.wait()
        self._lines.close()
        for stream in (self.process.stdin, self.process.stderr):
            assert stream is not None
            stream.close()


@contextmanager
def child(
    environment: Mapping[str, str] | None = None, before: Sequence[str | Path] = ()
) -> Iterator[Child]:
    """A child that is gone at the end of the block."""
    started = Child(environment, before)
    try:
        yield started
    finally:
        started.close()


def run(*jobs: Job, environment: Mapping[str, str] | None = None) -> Outcome:
    """Runs one child to its end."""
    with child(environment) as started:
        for job in jobs:
            started.send(job)
        return started.finish()


def remain(directory: Path) -> list[str]:
    """What is left below a directory."""
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    """Waits for something to become true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not become true in time"
        time.sleep(0.01)


@dataclass
class Place:
    """A directory of one test, in which jobs are done."""

    root: Path

    @property
    def prefix(self) -> Path:
        """Where builds go unless they say otherwise."""
        return self.root / "prefix"

    @property
    def packages(self) -> Path:
        """The package store of all builds."""
        return self.root / "packages"

    def solve_job(self, channel: str | Path, *specs: str, **changes: Any) -> Job:
        """A job for the solver."""
        return {
            "v": 1,
            "job": "solve",
            "engine": "rattler",
            "command": None,
            "channels": [url_of(channel)],
            "specs": list(specs),
            "platforms": ["linux-64"],
            "virtual_packages": {},
            "cuda": None,
            "timeout_s": 60,
            "repodata_cache": str(self.root / "repodata"),
            "repodata_ttl_s": 120,
            "credentials": [],
            "offline": False,
            "flags": ["--strict-channel-priority"],
            **changes,
        }

    def solve(self, channel: str | Path, *specs: str, **changes: Any) -> list[Record]:
        """The packages for this platform."""
        outcome = run(self.solve_job(channel, *specs, **changes))
        packages: list[Record] = outcome.result["packages"]["linux-64"]
        return packages

    def build_job(self, records: list[Record], **changes: Any) -> Job:
        """A job that builds an environment."""
        return {
            "v": 1,
            "job": "build",
            "engine": "rattler",
            "command": None,
            "name": "test",
            "prefix": str(self.prefix),
            "packages_dir": str(self.packages),
            "records": records,
            "specs": [],
            "channels": [],
            "variables": {},
            "pip": None,
            "pip_locked": None,
            "pip_only_binary": True,
            "permissions": None,
            "uid": None,
            "gid": None,
            "link_scripts": False,
            "bytecode": True,
            "fetch_concurrency": 8,
            "credentials": [],
            "offline": False,
            **changes,
            "limits": LIMITS | changes.get("limits", {}),
        }

    def build(self, records: list[Record], **changes: Any) -> Outcome:
        """Builds an environment."""
        return run(self.build_job(records, **changes))

    def litter(self) -> list[str]:
        """What a build must not leave: its workspace and its claims."""
        return [*remain(self.packages / "work"), *remain(self.packages / "claims")]


def url_of(channel: str | Path) -> str:
    """A channel as a URL."""
    return channel.as_uri() if isinstance(channel, Path) else channel


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An empty place for the jobs of one test."""
    return Place(tmp_path)


@pytest.fixture(scope="session")
def hostile_channel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A channel of packages that attack; `outside` beside it is what they aim at."""
    root = tmp_path_factory.mktemp("hostile")
    write_hostile(root / "channel", root / "outside", bomb_megabytes=300)
    return root / "channel"
