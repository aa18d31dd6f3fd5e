"""`scripts/crash-matrix` tells what is well from what is not; in full it takes half an hour."""

from pathlib import Path

from tests.acceptance.crash_matrix import NOT_REACHED, Matrix
from tests.acceptance.stories import Channels


def test_a_point_is_tried_until_it_is_not_reached(
    tmp_path: Path, tiny: str, channel: str, index: str
) -> None:
    matrix = Matrix(tmp_path, Channels(tiny, channel, index), lambda: None)
    fine, missed = matrix.cases(["build.stored", "build.nothing"], ["EIO"])
    assert not fine.failed, fine
    assert fine.happened == "refused: build FAILED: [Errno 5] Input/output error"
    assert (missed.happened, missed.failed) == (NOT_REACHED, True)
    assert list(tmp_path.glob("build.*")) == []


def test_a_child_may_die_alone(tmp_path: Path, tiny: str, channel: str, index: str) -> None:
    matrix = Matrix(tmp_path, Channels(tiny, channel, index), lambda: None)
    [died] = matrix.cases(["engine.synced", "build.stored"], ["child"])
    assert not died.failed, died
    assert died.happened.startswith("refused: build FAILED: the engine was ended by SIGKILL")
