"""The roles that remove: whole trees, and what dead builds left in the package store."""

from pathlib import Path

from condastore.engine.events import Events
from condastore.engine.jobs import RemoveJob, SweepJob
from condastore.engine.pace import Pace
from condastore.engine.store import PackageStore
from condastore.engine.trees import Amount, remove_tree
from condastore.engine.workspace import alone, remove_abandoned


def remove(job: RemoveJob, events: Events) -> None:
    """Removes the paths of a job; one that is gone already is no error."""
    events.phase("remove")
    freed = Amount()
    pace = Pace(job.get("files_per_s", 0))
    for done, path in enumerate(job["paths"]):
        events.progress("remove", done, len(job["paths"]), freed.bytes)
        freed += remove_tree(Path(path), pace)
    events.result(freed_bytes=freed.bytes, files=freed.files)


def sweep(job: SweepJob, events: Events) -> None:
    """Removes what is half made or doubtful; nothing that a living build uses."""
    events.phase("remove")
    store = PackageStore(Path(job["packages_dir"]))
    store.prepare()
    freed = remove_abandoned(store.workspaces)
    with alone(store.workspaces) as is_alone:
        if is_alone:
            freed += store.remove_doubtful()
    store.remove_old_claims()
    events.result(removed=freed.files, freed_bytes=freed.bytes)
