"""The points where tests break the daemon."""

import os
import subprocess
import sys
import time

import pytest

from condastore import faults
from condastore.faults import VARIABLE, fault


def arm(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(faults, "_armed", faults._Armed(text))


def test_nothing_happens_unless_a_test_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fault("anything")
    arm(monkeypatch, "other.point:1:raise:ENOSPC")
    fault("anything")


def test_the_nth_passing_fails_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    arm(monkeypatch, "point:2:raise:ENOSPC")
    fault("point")
    with pytest.raises(OSError, match="No space left") as caught:
        fault("point")
    assert caught.value.errno == 28
    fault("point")


def test_each_passing_of_points_with_one_beginning_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    arm(monkeypatch, "build.*:*:raise:EIO")
    fault("phase.build.x")
    for point in ("build.begun", "build.solved", "build.begun"):
        with pytest.raises(OSError, match="Input/output error"):
            fault(point)


def test_a_point_can_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    arm(monkeypatch, "point:1:sleep:0.05")
    began = time.monotonic()
    fault("point")
    assert time.monotonic() - began >= 0.05


def test_a_word_that_means_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    arm(monkeypatch, "point:1:explode")
    with pytest.raises(ValueError, match="CONDASTORE_FAULT: unknown action 'explode'"):
        fault("point")


@pytest.mark.parametrize(("action", "status"), [("kill", -9), ("kill:TERM", -15)])
def test_a_process_is_killed_as_if_from_outside(action: str, status: int) -> None:
    script = "from condastore.faults import fault\nfault('point')\nprint('alive')"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, VARIABLE: f"point:1:{action}"},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (status, b"")
    assert ended.stderr.decode() == f"fault point: point:1:{action}\n"
