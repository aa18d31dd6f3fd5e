"""What is being done, for the two logs: the request and the build that a line belongs to."""

from collections.abc import Iterator
from contextvars import ContextVar

# Each request and each task of the pool runs in an asyncio task, and so in a context, of its own.
request_id: ContextVar[str] = ContextVar("request_id", default="")
via: ContextVar[str] = ContextVar("via", default="daemon")
"""`api`, `ui`, or `daemon` for what it does by itself."""
build_id: ContextVar[int | None] = ContextVar("build_id", default=None)


def current() -> Iterator[tuple[str, str]]:
    """Yields what is known: names, and ids as text."""
    if request := request_id.get():
        yield "request", request
    if (build := build_id.get()) is not None:
        yield "build", str(build)
