"""What an inspection found, for people and for programs."""

import json
from collections.abc import Iterable, Sequence

from condastore.inspection.findings import Finding

_EXAMPLES = 3


def as_text(findings: Sequence[Finding]) -> str:
    """Returns a paragraph for each kind: how many, the first few, and what comes next."""
    lines = []
    for kind, some in _by_kind(findings).items():
        lines.append(f"{len(some):6}  {kind}")
        lines += [f"        {finding.subject}" for finding in some[:_EXAMPLES]]
        if some[_EXAMPLES:]:
            lines.append(f"        and {len(some) - _EXAMPLES} more")
        verb = "with --repair" if some[0].mend is not None else "to do"
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
        }
        for finding in findings
    ]
    return json.dumps({"findings": rows, "not_repaired": list(failures)}, indent=2)


def _by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.kind, []).append(finding)
    return found
