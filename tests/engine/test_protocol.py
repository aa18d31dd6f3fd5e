"""What holds for every child: how it ends, what it may use, and what it never says."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from condastore.engine.failures import explain
from condastore.engine.redaction import without_credentials
from tests.engine.conftest import Place, child, run, wait_until
from tests.engine.test_store import record_of
from tests.patience import PATIENCE_S


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at https://user:pass@host/x", "at https://host/x"),
        ("https://host/t/TOKEN/channel/noarch", "https://host/channel/noarch"),
        ("file:///t/a/b", "file:///t/a/b"),
        ("numpy::x a@b.c", "numpy::x a@b.c"),
    ],
)
def test_credentials_are_taken_out_of_text(text: str, expected: str) -> None:
    assert without_credentials(text) == expected


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(28, "No space left on device"), "disk"),
        (RuntimeError("failed to write: No space left on device (os error 28)"), "disk"),
        (ExceptionGroup("", [ExceptionGroup("", [OSError(122, "Quota")])]), "disk"),
        (MemoryError(), "memory"),
        (KeyError("x"), "internal"),
    ],
)
def test_failures_have_a_kind(error: Exception, kind: str) -> None:
    assert explain(error).kind == kind


def test_F17_who_runs_out_of_memory_is_told_how_much_it_was() -> None:
    program = (
        "import resource; from condastore.engine.failures import explain\n"
        "resource.setrlimit(resource.RLIMIT_AS, (4 * 10**9, 4 * 10**9))\n"
        # It is reserved and not written to, and counts all the same.
        "try: kept = [bytes(10**8) for _ in range(100)]\n"
        "except MemoryError as error: print(explain(error))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    message = r"ran out of memory: limit 4\.0 GB \(CondaStore\.max_build_memory\), used 3\.\d GB"
    assert re.search(message, said.stdout), said


def test_an_unforeseen_failure_is_short_and_internal() -> None:
    outcome = run({"v": 1, "job": "build", "engine": "rattler"})
    assert outcome.error["kind"] == "internal"
    assert outcome.status == 1
    assert "Traceback" in outcome.stderr


@pytest.mark.parametrize("job", [{}, {"job": "dance"}, "solve"])
def test_a_job_that_is_none_is_an_error(job: Any) -> None:
    assert run(job).error["kind"] == "internal"


def test_a_child_dies_at_once_on_sigterm(place: Place, hostile_channel: Path) -> None:
    with child() as running:
        running.send(place.build_job([record_of(hostile_channel, hostile_channel, "bomb")]))
        running.wait_for(lambda event: event.get("phase") == "fetch")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(PATIENCE_S) == -signal.SIGTERM


def test_a_child_dies_with_its_parent() -> None:
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-I', '-m', 'condastore.engine',\n"
        "    '--events-fd', '1', '--parent', str(os.getpid())], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, stdin=subprocess.PIPE
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        status = Path(f"/proc/{pid}/status")
        wait_until(lambda: "python" in status.read_text())
        time.sleep(0.2)
        parent.kill()

        def is_gone() -> bool:
            try:
                return "Z (zombie)" in status.read_text()
            except OSError:
                return True

        wait_until(is_gone)


def test_a_child_of_a_dead_parent_ends_at_once() -> None:
    command = [sys.executable, "-I", "-m", "condastore.engine", "--events-fd", "1"]
    ended = subprocess.run([*command, "--parent", "1"], stdin=subprocess.DEVNULL)
    assert ended.returncode == 1


def test_limits_are_set_before_the_work(place: Place, small_channel: Path) -> None:
    with child() as running:
        running.send({**place.solve_job(small_channel, "six"), "limits": {"memory_bytes": 1 << 20}})
        running.wait_for(lambda event: event["t"] == "result")
        pid = running.process.pid
        assert resource.prlimit(pid, resource.RLIMIT_AS) == (4 << 30, 4 << 30)
        assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


def test_grandchildren_do_not_get_the_events(place: Place, small_channel: Path) -> None:
    # If one kept the descriptor, the daemon would wait for its end and not for the child's.
    with child() as running:
        running.send(place.solve_job(small_channel, "six"))
        running.wait_for(lambda event: event["t"] == "result")
        descriptors = Path(f"/proc/{running.process.pid}/fdinfo")
        flags = {
            int(line.split()[1], 8)
            for descriptor in descriptors.iterdir()
            if int(descriptor.name) > 2
            for line in descriptor.read_text().splitlines()
            if line.startswith("flags:")
        }
        assert all(flag & os.O_CLOEXEC for flag in flags)
