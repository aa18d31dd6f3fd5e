"""The build's role: from a list of packages to a finished prefix."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from condastore.engine.bytecode import add_bytecode
from condastore.engine.damage import set_aside_damaged
from condastore.engine.events import EngineError, Events
from condastore.engine.failures import explain
from condastore.engine.fetch import fetch
from condastore.engine.jobs import BuildJob, Record
from condastore.engine.link import link
from condastore.engine.metadata import complete_metadata
from condastore.engine.permissions import settle
from condastore.engine.records import checked
from condastore.engine.store import PackageStore, sync_file_system
from condastore.engine.trees import remove_tree
from condastore.engine.workspace import workspace
from condastore.faults import fault

# What a damaged package of the store may be the reason of.
_OF_PACKAGES = ("package", "internal")


def build(job: BuildJob, events: Events) -> None:
    """Makes the prefix of a job, or leaves nothing of it."""
    prefix = Path(job["prefix"])
    if prefix.exists():
        raise EngineError("internal", f"The prefix {prefix} exists already.")
    try:
        _build(job, prefix, events)
    except BaseException:
        remove_tree(prefix)
        raise


def _build(job: BuildJob, prefix: Path, events: Events) -> None:
    store = PackageStore(Path(job["packages_dir"]))
    store.prepare()
    with workspace(store.workspaces) as scratch:
        if job["engine"] == "rattler":
            records, entries = asyncio.run(_assemble(job, prefix, store, scratch, events))
        else:
            # These two are imported where they are used: most builds need neither.
            from condastore.engine import external

            external.link(dict(job), events)
            records, entries = job["records"], []
        pip_packages = {}
        if job["pip"] or job["pip_locked"]:
            from condastore.engine import pip

            pip_packages = pip.resolve_and_install(dict(job), prefix, events)
            fault("engine.pip_installed")
        events.phase("permissions")
        size = settle(prefix, job["permissions"], job["uid"], job["gid"])
        fault("engine.settled")
        for path in (prefix, scratch):  # they may be on two file systems
            sync_file_system(path)
        fault("engine.synced")
        store.mark_durable(entries)
        fault("engine.durable")
    events.result(
        packages=records,
        pip=pip_packages,
        size={"bytes": size.bytes, "own_bytes": size.own_bytes, "files": size.files},
        python=_python(records),
    )


async def _assemble(
    job: BuildJob, prefix: Path, store: PackageStore, scratch: Path, events: Events
) -> tuple[list[Record], list[Path]]:
    """Returns the packages, and the entries of the store that the prefix rests on.

    If a package in the store turns out to be damaged, it is fetched again, once.
    """
    try:
        return await _assemble_once(job, prefix, store, scratch, events)
    except Exception as error:
        if explain(error).kind not in _OF_PACKAGES:
            raise
        if not set_aside_damaged([checked(record) for record in job["records"]], store, events):
            raise
    remove_tree(prefix)
    again = scratch / "again"
    again.mkdir()
    return await _assemble_once(job, prefix, store, again, events)


async def _assemble_once(
    job: BuildJob, prefix: Path, store: PackageStore, scratch: Path, events: Events
) -> tuple[list[Record], list[Path]]:
    records = await fetch(job, store, scratch, events)
    entries = [store.package(record["sha256"]) for record in records]
    await link(job, records, store, scratch, events)
    complete_metadata(prefix, job, records)
    if job["bytecode"]:
        entries += add_bytecode(prefix, records, store, scratch, events)
    return records, entries


def _python(records: Sequence[Record]) -> str | None:
    return next((str(r["version"]) for r in records if r["name"] == "python"), None)
