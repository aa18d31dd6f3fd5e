"""What somebody may have meant."""

import pytest

from condastore.spelling import similar


@pytest.mark.parametrize("meant", ["nump", "numpyx", "numpi", "unmpy", "nunpy", "num-py", "humpy"])
def test_one_slip_of_the_hand_is_found(meant: str) -> None:
    assert meant in similar("numpy")
    assert "numpy" not in similar("numpy")
    assert "numpy" in similar(meant)


def test_other_names_are_other_names() -> None:
    assert not similar("numpy") & {"pandas", "nupy2", "numpyyy", ""}
    assert "" not in similar("x")


def test_long_names_have_none() -> None:
    assert similar("x" * 40)
    assert similar("x" * 255) == set()
