"""The baseline of a build: the same jobs for the same engine processes, with no daemon around."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from benchmarks.scene import Specification
from benchmarks.usage import peak_bytes
from condastore import environment_yaml
from condastore.builders.jobs import Solution, build_job, solve_job
from condastore.builders.plan import Plan
from condastore.builders.process import environment
from condastore.configuration import CondaStore
from condastore.prefixes import Store
from condastore.setting_rows import configured
from condastore.specification import CondaSpecification

Event = dict[str, Any]
Listener = Callable[[Event], None]


class BareEngine:
    """One engine process.

    `peak_bytes` is the peak of the largest process in it, as far as its events let it be seen.
    """

    def __init__(self, scratch: Path) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, "-I", "-m", "condastore.engine", "--events-fd", str(writing)]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=(writing,),
            cwd=scratch,
            env=environment(scratch),
            # As the daemon does: how nice a process is counts in its session first.
            start_new_session=True,
        )
        os.close(writing)
        self._events: IO[bytes] = os.fdopen(reading, "rb")
        self.peak_bytes = 0

    def do(self, job: dict[str, Any], listener: Listener = lambda _: None) -> Event:
        """Sends a job and returns its result; `listener` gets the events before it."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        for line in self._events:
            self.peak_bytes = max(self.peak_bytes, peak_bytes(self._process.pid))
            event: Event = json.loads(line)
            if event["t"] == "error":
                raise RuntimeError(event["text"])
            if event["t"] == "result":
                return event
            listener(event)
        raise RuntimeError("the engine ended without a result")

    def end(self) -> None:
        """Waits for the end of the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._events.close()
        self._process.wait()


class Hand:
    """Builds by hand, in the directories of a daemon or in its own."""

    def __init__(self, data: Path, *, bytecode: bool = True) -> None:
        self._config = CondaStore(data_directory=str(data), compile_bytecode=bytecode)
        self.store = Store.of(self._config)
        self.store.make()
        self._settings = configured(self._config)
        self._solver: BareEngine | None = None
        self._prefixes = 0

    def build(self, specification: Specification) -> Path:
        """Solves, with a solver that stays, and builds; returns the prefix."""
        prefix, _ = self.install(specification, self.solve(specification))
        return prefix

    def solve(self, specification: Specification) -> Solution:
        """Returns the packages of an environment."""
        if self._solver is None:
            self._solver = BareEngine(self.store.scratch)
        job = self.solve_job(specification)
        return Solution(job["channels"], self._solver.do(job)["packages"], [])

    def install(
        self,
        specification: Specification,
        solution: Solution,
        listener: Listener = lambda _: None,
    ) -> tuple[Path, int]:
        """Builds in a process of its own; returns the prefix and the peak of its memory."""
        plan = self._plan(specification)
        plan.prefix.parent.mkdir(exist_ok=True)
        engine = BareEngine(self.store.scratch)
        engine.do(build_job(self._config, self.store, plan, solution), listener)
        engine.end()
        return plan.prefix, engine.peak_bytes

    def solve_job(self, specification: Specification) -> dict[str, Any]:
        """Returns the job of a solve."""
        return solve_job(self._config, self.store, self._settings, _parsed(specification))

    def close(self) -> None:
        """Ends the solver."""
        if self._solver is not None:
            self._solver.end()

    def _plan(self, specification: Specification) -> Plan:
        self._prefixes += 1
        return Plan(
            build_id=0,
            key="by-hand",
            log_key="",
            namespace="default",
            environment=specification["name"],
            environment_id=0,
            specification=_parsed(specification),
            sha256="",
            settings=self._settings,
            prefix=self.store.prefix("default", 2, f"by-hand-{self._prefixes}"),
        )


def _parsed(specification: Specification) -> CondaSpecification:
    return environment_yaml.parse(json.dumps(specification))
