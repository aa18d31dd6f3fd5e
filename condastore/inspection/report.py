"""What an inspection found, for people and for programs."""

import json
import sys
import time
from collections.abc import Iterable, Sequence

from condastore.builders.process import Event
from condastore.inspection.findings import Finding

_EXAMPLES = 3
_PROGRESS_S = 5.0


def as_text(findings: Sequence[Finding]) -> str:
    """Returns a paragraph for each kind: how many, the first few, and what comes next."""
    lines = []
    for kind, some in _by_kind(findings).items():
        lines.append(f"{len(some):6}  {kind}")
        lines += [f"        {finding.subject}" for finding in some[:_EXAMPLES]]
        if some[_EXAMPLES:]:
            lines.append(f"        and {len(some) - _EXAMPLES} more")
        verb = "with --repair" if some[0].mend is not None else "to do"
        if not some[0].is_problem:
            verb = "good to know"
        lines.append(f"        {verb}: {some[0].advice}")
    return "\n".join(lines)


def as_json(findings: Iterable[Finding], failures: Iterable[str]) -> str:
    """Returns one JSON object with everything that was found and what could not be mended."""
    rows = [
        {
            "kind": finding.kind,
            "subject": finding.subject,
            "advice": finding.advice,
            "can_be_repaired": finding.mend is not None,
            "is_problem": finding.is_problem,
        }
        for finding in findings
    ]
    return json.dumps({"findings": rows, "not_repaired": list(failures)}, indent=2)


class Progress:
    """Says on the standard error how far the hashing of packages is."""

    def __init__(self) -> None:
        self._said_at = 0.0

    async def __call__(self, event: Event) -> None:
        if event["t"] == "log":
            print(event["text"], file=sys.stderr)
        if event["t"] != "progress":
            return
        now = time.monotonic()
        if event["done"] == event["total"] or now - self._said_at > _PROGRESS_S:
            self._said_at = now
            read = f"{event['bytes'] / 1e6:.0f} MB"
            print(f"{event['done']} of {event['total']} packages, {read} read", file=sys.stderr)


def _by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.kind, []).append(finding)
    return found
