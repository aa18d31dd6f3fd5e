"""The link phase: rattler puts the packages of the store together as a prefix.

Rattler gets a package cache of this build's own: a directory of links into the store. So it finds
every package, downloads nothing, and shares no lock with another build.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from rattler import Config, InstallerReporter, install
from rattler.exceptions import InstallerError, LinkError
from rattler.package_cache import PackageCache, ValidationMode

from condastore.engine.events import EngineError, Events
from condastore.engine.failures import explain
from condastore.engine.jobs import BuildJob, Record
from condastore.engine.link_scripts import find_scripts, name_scripts, run_scripts
from condastore.engine.records import distribution, for_rattler
from condastore.engine.solve import parse_specs
from condastore.engine.store import PackageStore
from condastore.faults import fault

STEP = "action_install_lockfile"
# A script may write to any file of its prefix, so none of them may be shared.
_COPIES = "allow-hard-links = false\nallow-ref-links = true\nallow-symbolic-links = false\n"
_CLOBBERS = "__clobbers__"
_CLOBBERS_NAMED = 5


async def link(
    job: BuildJob, records: Sequence[Record], store: PackageStore, workspace: Path, events: Events
) -> None:
    """Makes the prefix out of packages that are all in the store."""
    events.phase("link")
    prefix = Path(job["prefix"])
    view = _make_view(records, store, workspace)
    events.log("Preparing transaction: done", STEP)
    try:
        await _install(job, records, view, events)
    except (InstallerError, LinkError) as error:
        reason = explain(error)
        if reason.kind == "internal":
            reason = EngineError("package", f"The packages can't be linked: {error}")
        raise reason from None
    fault("engine.linked")
    _correct_metadata(prefix, view, records, store)
    _report_clobbers(prefix, events)
    scripts = find_scripts(prefix, records)
    if job["link_scripts"]:
        run_scripts(scripts, prefix, workspace, lambda text: events.log(text, STEP))
    else:
        name_scripts(scripts, lambda text: events.log(text, STEP))
    events.log("Executing transaction: done", STEP)


async def _install(job: BuildJob, records: Sequence[Record], view: Path, events: Events) -> None:
    await install(
        for_rattler(records),
        job["prefix"],
        package_cache=PackageCache.new_layered([view], validation_mode=ValidationMode.skip()),
        execute_link_scripts=False,
        config=Config.from_toml(_COPIES) if job["link_scripts"] else None,
        reporter=_Reporter(events, len(records)),  # type: ignore[abstract]
        # Rattler 0.28 takes its inner type here, and refuses the MatchSpec itself.
        requested_specs=[spec._match_spec for spec in parse_specs(job["specs"], job["channels"])],
    )


def _make_view(records: Sequence[Record], store: PackageStore, workspace: Path) -> Path:
    view = workspace / "view"
    view.mkdir()
    for record in records:
        (view / distribution(record)).symlink_to(store.package(record["sha256"]))
    return view


def _correct_metadata(
    prefix: Path, view: Path, records: Sequence[Record], store: PackageStore
) -> None:
    # The records name the view, which is gone after the build and called otherwise in the next:
    # the same packages must give the same prefix.
    for record in records:
        metadata = prefix / "conda-meta" / f"{distribution(record)}.json"
        source = os.fsencode(view / distribution(record))
        with metadata.open("r+b") as file:
            data = file.read().replace(source, os.fsencode(store.package(record["sha256"])))
            file.seek(0)
            # Cut at its new end and never at nothing: that would make the file system flush it.
            file.truncate(file.write(data))


def _report_clobbers(prefix: Path, events: Events) -> None:
    # Where several packages have a file, rattler uses that of one and keeps the others' here.
    for package in sorted((prefix / _CLOBBERS).glob("*")):
        files = sorted(str(p.relative_to(package)) for p in package.rglob("*") if not p.is_dir())
        names = ", ".join(files[:_CLOBBERS_NAMED]) + (", ..." if files[_CLOBBERS_NAMED:] else "")
        events.log(f"warning: {package.name} has files that other packages bring: {names}", STEP)


class _Reporter(InstallerReporter):
    """Counts the packages that rattler has linked."""

    def __init__(self, events: Events, total: int) -> None:
        self._events = events
        self._total = total
        self._done = 0

    def on_link_complete(self, index: int) -> None:
        self._done += 1
        self._events.progress("link", self._done, self._total)
