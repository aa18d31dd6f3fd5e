"""One inspection after the other."""

from condastore.builders.jobs import remove_job
from condastore.builders.process import Event, engine
from condastore.inspection.artifacts import inspect_artifacts
from condastore.inspection.blobs import inspect_blobs
from condastore.inspection.databases import inspect_databases
from condastore.inspection.findings import Finding
from condastore.inspection.images import inspect_images
from condastore.inspection.litter import inspect_litter, inspect_logs, inspect_outbox
from condastore.inspection.prefixes import (
    inspect_links,
    inspect_package_lists,
    inspect_prefixes,
    inspect_status,
)
from condastore.inspection.queue import inspect_queue
from condastore.inspection.scene import Scene

# In the order in which they are mended: rows before the links and files that follow from them.
_INSPECTIONS = (
    inspect_databases,
    inspect_queue,
    inspect_prefixes,
    inspect_status,
    inspect_links,
    inspect_package_lists,
    inspect_artifacts,
    inspect_images,
    inspect_blobs,
    inspect_logs,
    inspect_outbox,
    inspect_litter,
)


async def inspect(scene: Scene) -> list[Finding]:
    """Returns everything that is not as it should be; changes nothing."""
    return [finding for look in _INSPECTIONS async for finding in look(scene)]


async def empty_trash(scene: Scene) -> int:
    """Removes what was moved to the trash; returns the bytes that came free."""
    freed = 0
    for path in sorted(scene.store.trash.glob("*")):
        async with engine(scene.store.scratch) as child:
            freed += (await child.do(remove_job(path, files_per_s=0), _ignore))["freed_bytes"]
    return freed


async def _ignore(_: Event) -> None:
    pass
