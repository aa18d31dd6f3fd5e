"""What a build tells: the events of its children become its log and its progress."""

import logging
import time
from collections.abc import Callable
from typing import Any

from condastore.builders.process import Event, printable
from condastore.faults import fault
from condastore.streams import BuildLog

logger = logging.getLogger(__name__)


class Reporter:
    """Writes one build's log, and keeps how long its phases took."""

    def __init__(
        self,
        log: BuildLog,
        phase_ended: Callable[[str, float], None] | None = None,
        phases: list[dict[str, Any]] | None = None,
    ) -> None:
        """`phases` gets those that are over, each with its `seconds`."""
        self._log = log
        self._began = time.monotonic()
        self._phase = ""
        self._phase_began = self._began
        self._phase_ended = phase_ended
        self._phases = [] if phases is None else phases

    def line(self, text: str) -> None:
        """Adds a line of the daemon's own."""
        self._log.append(text + "\n", always=True)

    def phase(self, phase: str) -> None:
        """Says that a phase begins."""
        fault(f"phase.{phase}")
        self.end_phase()
        self._phase, self._phase_began = phase, time.monotonic()
        after_s = round(self._phase_began - self._began, 2)
        self._log.happened({"event": "phase", "phase": phase, "after_s": after_s})

    def end_phase(self, *, is_whole: bool = True) -> None:
        """Tells how many seconds the phase took that ends here, if one does.

        One that is broken off has its place in the story, but is not measured.
        """
        if self._phase:
            seconds = time.monotonic() - self._phase_began
            self._phases.append({"phase": self._phase, "seconds": round(seconds, 2)})
            if self._phase_ended is not None and is_whole:
                self._phase_ended(self._phase, seconds)
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
            case "damaged":
                # It is the operator's disk.
                file = event["files"][0]
                logger.warning(
                    "package %s was damaged in the store: %s %s",
                    event["name"],
                    file["path"],
                    file["problem"],
                )


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
