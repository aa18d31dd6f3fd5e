"""A clock that is put forward is not believed at once."""

import time

import pytest

from condastore.wall_clock import BELIEVED_S, WallClock

HOUR_S = 3600.0


class Machine:
    """What both clocks of a machine show."""

    def __init__(self) -> None:
        self.wall, self.since_boot = 1.7e9, 500.0

    def wait(self, seconds: float) -> None:
        self.wall += seconds
        self.since_boot += seconds


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(time, "time", lambda: machine.wall)
    monkeypatch.setattr(time, "clock_gettime", lambda _: machine.since_boot)
    return machine


def test_time_that_passes_is_believed(machine: Machine) -> None:
    clock = WallClock()
    for _ in range(1000):
        machine.wait(HOUR_S)
        # A clock that is a little fast, or is being corrected.
        machine.wall += 30
        assert clock.is_settled()


def test_a_clock_that_was_put_forward_is_believed_after_a_day(machine: Machine) -> None:
    clock = WallClock()
    machine.wall += 15 * 24 * HOUR_S
    assert not clock.is_settled()
    machine.wait(BELIEVED_S - 1)
    assert not clock.is_settled()
    machine.wait(2)
    assert clock.is_settled()
    machine.wait(HOUR_S)
    assert clock.is_settled()


def test_a_clock_that_is_put_right_is_believed_at_once(machine: Machine) -> None:
    clock = WallClock()
    machine.wall += HOUR_S
    assert not clock.is_settled()
    machine.wall -= HOUR_S
    assert clock.is_settled()


def test_what_was_set_back_only_makes_things_younger(machine: Machine) -> None:
    clock = WallClock()
    machine.wall -= 50 * 365 * 24 * HOUR_S
    assert clock.is_settled()
