"""Which request something is done for: set where it arrives, read where a change is written."""

from contextvars import ContextVar
from typing import NamedTuple


class Origin(NamedTuple):
    """Where a change comes from."""

    via: str
    """`api`, `ui`, or `daemon` for what the daemon does by itself."""
    request_id: str | None = None
    """As the answer's header `X-Request-Id` and the daemon's log have it."""


BY_ITSELF = Origin("daemon")
ORIGIN: ContextVar[Origin] = ContextVar("origin", default=BY_ITSELF)
