"""The artifacts that are made after a build, each by a task of its own, and how far each is."""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from condastore.builders.process import Event
from condastore.builders.reporter import progress_of

Listener = Callable[[Event], Awaitable[None]]


class Making:
    """What running tasks tell of the artifacts that they make; nothing of it must survive."""

    def __init__(self) -> None:
        self._progress: dict[tuple[int, str], dict[str, Any]] = {}

    def begin(self, build_id: int, kind: str) -> Listener:
        """Returns the listener for the events of the child that does a task of this kind."""
        began = time.monotonic()

        async def listen(event: Event) -> None:
            nonlocal began
            match event["t"]:
                case "phase":
                    began = time.monotonic()
                    self._progress[build_id, kind] = {"phase": event["phase"]}
                case "progress":
                    progress = progress_of(event, time.monotonic() - began)
                    self._progress[build_id, kind] = progress

        return listen

    def end(self, build_id: int, kind: str) -> None:
        """Forgets a task that has ended."""
        self._progress.pop((build_id, kind), None)

    def progress(self, build_id: int, kind: str) -> dict[str, Any] | None:
        """Returns the last that a running task told: its phase, and what is done of it."""
        return self._progress.get((build_id, kind))
