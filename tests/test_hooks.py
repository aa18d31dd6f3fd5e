"""The operator's functions, good and bad."""

import threading
from pathlib import Path
from typing import Any

import pytest

from condastore.errors import Conflict, InvalidInput, Unavailable
from condastore.hooks import Hooks, SwitchedEnvironment
from tests.patience import PATIENCE_S

SPECIFICATION = {"name": "x", "dependencies": []}
SWITCHED = SwitchedEnvironment("default", "x", 1, Path("/prefix"))


def hooks(**functions: Any) -> Hooks:
    return Hooks("configuration", PATIENCE_S, **functions)


async def test_without_hooks_nothing_happens() -> None:
    assert await hooks().specification("default", SPECIFICATION) == SPECIFICATION
    await hooks().action("default", "environment:create")
    await hooks().switched(SWITCHED)


async def test_a_plain_function_runs_in_a_thread_of_its_own() -> None:
    seen: list[Any] = []

    def hook(*arguments: Any) -> dict[str, Any]:
        seen.extend([*arguments, threading.current_thread()])
        return {"name": "y"}

    changed = await hooks(validate_specification=hook).specification("lab", SPECIFICATION)
    assert changed == {"name": "y"}
    assert seen[:4] == [None, "configuration", "lab", SPECIFICATION]
    assert seen[4] is not threading.main_thread()


async def test_a_coroutine_is_awaited() -> None:
    async def hook(*_: Any) -> None:
        raise ValueError("closed")

    with pytest.raises(InvalidInput, match=r"^closed$"):
        await hooks(validate_action=hook).action("lab", "environment:create")


async def test_an_error_of_ours_keeps_its_status() -> None:
    def hook(*_: Any) -> None:
        raise Conflict("not now")

    with pytest.raises(Conflict):
        await hooks(validate_action=hook).action("lab", "environment:create")


async def test_a_hook_that_hangs_is_given_up() -> None:
    released = threading.Event()
    hanging = Hooks("configuration", 0.2, validate_action=lambda *_: released.wait(PATIENCE_S))
    with pytest.raises(Unavailable):
        await hanging.action("lab", "x")
    released.set()


async def test_a_bug_is_a_bug() -> None:
    with pytest.raises(ZeroDivisionError):
        await hooks(validate_action=lambda *_: 1 / 0).action("lab", "x")
    with pytest.raises(TypeError, match="must return"):
        await hooks(validate_specification=lambda *_: 7).specification("lab", SPECIFICATION)


async def test_a_failure_after_the_switch_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    await hooks(environment_switched=lambda *_: 1 / 0).switched(SWITCHED)
    assert "post_update_environment_build_hook failed" in caplog.text
