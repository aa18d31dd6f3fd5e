"""What an inspection finds: a disagreement, and what mends it."""

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

Mend = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be."""

    kind: str
    """What is wrong, the same words for all of its kind."""
    subject: str
    """What it is wrong with."""
    advice: str
    """What `--repair` does about it, or what somebody has to do."""
    mend: Mend | None = field(default=None, compare=False, repr=False)
    """Mends it; None if only a person can."""
    is_problem: bool = True
    """Whether something is to be done; the rest is good to know."""


async def mend_all(findings: Iterable[Finding]) -> dict[Finding, str]:
    """Mends what can be mended, in order; returns what could not be, each with a sentence why."""
    failures = {}
    for finding in findings:
        if finding.mend is None:
            continue
        try:
            await finding.mend()
        except Exception as error:
            # One file that can't be moved must not keep the rest from being mended.
            logger.debug("%s is not mended", finding.subject, exc_info=True)
            failures[finding] = f"{finding.kind}: {finding.subject} is not mended: {error}"
    return failures
