"""What a build tells: the events of its children become its log and its progress."""

import time
from collections.abc import Callable
from typing import Any

from condastore.builders.process import Event, printable
from condastore.faults import fault
from condastore.streams import BuildLog


class Reporter:
    """Writes one build's log."""

    def __init__(
        self, log: BuildLog, phase_ended: Callable[[str, float], None] | None = None
    ) -> None:
        self._log = log
        self._phase = ""
        self._phase_began = time.monotonic()
        self._phase_ended = phase_ended

    def line(self, text: str) -> None:
        """Adds a line of the daemon's own."""
        self._log.append(text + "\n", always=True)

    def phase(self, phase: str) -> None:
        """Says that a phase begins."""
        fault(f"phase.{phase}")
        self.end_phase()
        self._phase, self._phase_began = phase, time.monotonic()
        self._log.happened({"event": "phase", "phase": phase})

    def end_phase(self) -> None:
        """Tells how many seconds the phase took that ends here, if one does."""
        if self._phase and self._phase_ended is not None:
            self._phase_ended(self._phase, time.monotonic() - self._phase_began)
        self._phase = ""

    async def event(self, event: Event) -> None:
        """Takes an event of a child; waits while the log's file is far behind."""
        match event["t"]:
            case "log":
                self._log.append(_prefixed(event["text"], event.get("step", "")))
                await self._log.drain()
            case "phase":
                self.phase(event["phase"])
            case "progress":
                progress = progress_of(event, time.monotonic() - self._phase_began)
                self._log.happened({"event": "progress", **progress})


def progress_of(event: Event, elapsed_s: float) -> dict[str, Any]:
    """Returns what users see of a progress event, with the seconds that are left of its phase."""
    done, total = event["done"], event["total"]
    if event["bytes_total"]:
        done, total = event["bytes"], event["bytes_total"]
    return {
        "phase": event["phase"],
        "done": event["done"],
        "total": event["total"],
        "bytes": event["bytes"],
        "bytes_total": event["bytes_total"],
        "eta_s": round(elapsed_s / done * (total - done), 1) if done else None,
    }


def _prefixed(text: str, step: str) -> str:
    """Returns whole lines, each with the name of the step that they come from."""
    prefix = f"{step}: " if step else ""
    return "".join(f"{prefix}{printable(line)}\n" for line in text.rstrip("\n").split("\n"))
