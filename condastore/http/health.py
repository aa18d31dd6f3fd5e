"""`/api/v1/health/`, for probes."""

from condastore.errors import Unavailable
from condastore.http import shapes
from condastore.http.operations import Plain, live
from condastore.service.readings import DISPENSABLE, Cached


@live
async def health(call: Plain) -> shapes.Data[dict[str, str | None]]:
    """Whether the daemon can work; 503 with what is wrong if it can't."""
    cached: Cached[dict[str, str | None]] = call.request.app.state.health
    found = await cached.get()
    needed = {name: problem for name, problem in found.items() if name not in DISPENSABLE}
    wrong = [problem for problem in needed.values() if problem is not None]
    if wrong:
        raise Unavailable("; ".join(wrong))
    return shapes.data(found)
