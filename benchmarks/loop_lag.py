"""A daemon that tells how late its event loop is."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.scene import Scene
from benchmarks.served import Daemon, running

# In the daemon: how late the event loop is at worst since the last time that somebody asked, by the
# clock and by the CPU time that its thread took; the rest of it waited for a processor.
LAG = """
import asyncio, time
from starlette.responses import JSONResponse

PERIOD_S = 0.005
late, busy, probing = 0.0, 0.0, None

async def probe():
    global late, busy
    while True:
        began, used = time.perf_counter(), time.thread_time()
        await asyncio.sleep(PERIOD_S)
        lag = time.perf_counter() - began - PERIOD_S
        late, busy = max(late, lag), max(busy, min(lag, time.thread_time() - used))

async def loop_lag(request):
    global late, busy, probing
    probing = probing or asyncio.create_task(probe())
    found, late, busy = [late, busy], 0.0, 0.0
    return JSONResponse(found)

c.CondaStoreServer.additional_routes = [("/loop_lag", "GET", loop_lag)]
"""


@contextmanager
def watched(scene: Scene, **environment: str) -> Iterator[Daemon]:
    """A daemon whose lag can be asked for."""
    directory = scene.fresh("data")
    config = directory / "config.py"
    config.write_text(LAG)
    with running(directory / "data", f"--config={config}", **environment) as daemon:
        yield daemon


def loop_lag(daemon: Daemon) -> tuple[float, float]:
    """Returns how late the event loop was, and how busy meanwhile, since the last call."""
    late, busy = daemon.client.get(f"{daemon.url}/loop_lag").json()
    return late, busy
