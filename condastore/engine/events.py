"""What a child tells the daemon: one JSON object a line on a descriptor of its own."""

import json
import os
import threading
import time
from typing import Any, Literal

from condastore.engine.redaction import without_credentials

Kind = Literal[
    "spec",
    "unsatisfiable",
    "network",
    "auth",
    "hash",
    "package",
    "disk",
    "memory",
    "timeout",
    "engine",
    "internal",
]
Phase = Literal[
    "solve",
    "fetch",
    "link",
    "bytecode",
    "pip",
    "permissions",
    "export",
    "remove",
    "archive",
    "installer",
    "base",
    "layers",
    "verify",
]

EVENTS_FD = 3
PROGRESS_INTERVAL_S = 0.1


class EngineError(Exception):
    """The job failed for a reason that its user can read."""

    def __init__(self, kind: Kind, text: str) -> None:
        # Both, so that it can be sent from one process to another.
        super().__init__(kind, text)
        self.kind: Kind = kind
        self.text = text

    def __str__(self) -> str:
        return self.text


class Events:
    """Writes the events of one child, in order, each as one line; threads may share it."""

    def __init__(self, fd: int = EVENTS_FD) -> None:
        self._fd = fd
        self._seq = 0
        self._progress_at = 0.0
        self._writing = threading.Lock()

    def phase(self, phase: Phase) -> None:
        """Says that a phase begins."""
        self._progress_at = 0.0
        self._write("phase", phase=phase)

    def progress(
        self, phase: Phase, done: int, total: int, done_bytes: int = 0, total_bytes: int = 0
    ) -> None:
        """Says how far a phase is; calls within 100 ms are dropped, but the last is not."""
        now = time.monotonic()
        if done < total and now - self._progress_at < PROGRESS_INTERVAL_S:
            return
        self._progress_at = now
        self._write(
            "progress",
            phase=phase,
            done=done,
            total=total,
            bytes=done_bytes,
            bytes_total=total_bytes,
        )

    def log(self, text: str, step: str = "") -> None:
        """Adds whole lines to the build's log; `step` becomes their prefix."""
        self._write("log", text=text, step=step)

    def layer(self, **fields: Any) -> None:
        """Says that a layer of an image is made."""
        self._write("layer", **fields)

    def damaged(self, **fields: Any) -> None:
        """Says that a package of the store is damaged."""
        self._write("damaged", **fields)

    def result(self, **fields: Any) -> None:
        """Ends the job well."""
        self._write("result", **fields)

    def error(self, kind: Kind, text: str) -> None:
        """Ends the job badly."""
        self._write("error", kind=kind, text=text)

    def _write(self, event: str, **fields: Any) -> None:
        with self._writing:
            self._seq += 1
            line = json.dumps({"v": 1, "seq": self._seq, "t": event, **fields}) + "\n"
            data = without_credentials(line).encode()
            while data:
                data = data[os.write(self._fd, data) :]
