"""Guessing gets slower and slower."""

from condastore.http import attempts
from condastore.http.attempts import REMEMBERED, Attempts


def test_the_first_failures_cost_nothing_and_the_next_ever_more() -> None:
    tries = Attempts(5)
    for _ in range(4):
        tries.failed("user ada")
        assert tries.wait_s("user ada") == 0
    waits = []
    for _ in range(12):
        tries.failed("user ada")
        waits.append(round(tries.wait_s("user ada")))
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (attempts.FIRST_WAIT_S, attempts.LONGEST_WAIT_S)
    assert tries.wait_s("user bob") == 0


def test_a_success_forgets_the_failures() -> None:
    tries = Attempts(5)
    for _ in range(5):
        tries.failed("user ada")
        tries.failed("user bob")
    tries.succeeded("user ada")
    assert tries.wait_s("user ada") == 0
    assert tries.wait_s("user bob") > 0


def test_a_spray_over_a_million_names_takes_bounded_memory() -> None:
    tries = Attempts(5)
    for number in range(REMEMBERED + 100):
        tries.failed(f"user {number}")
    assert len(tries._failures) == REMEMBERED
