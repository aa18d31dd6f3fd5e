"""The role `image`: makes the layers of one platform that are not known yet, and the last one."""

import asyncio
import multiprocessing
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from condastore.engine.confine import die_with_parent
from condastore.engine.events import EngineError, Events
from condastore.engine.fetch import fetch
from condastore.engine.image.clobbers import Members, check_links
from condastore.engine.image.compilation import Shelf
from condastore.engine.image.entries import Entry
from condastore.engine.image.environment import activates, environment_entries
from condastore.engine.image.host_base import host_libraries
from condastore.engine.image.inventory import load_libraries
from condastore.engine.image.layer import Target, make_layer
from condastore.engine.image.layout import layout_of
from condastore.engine.image.libraries import needed_libraries
from condastore.engine.image.packages import Package, members_of
from condastore.engine.image.tarball import Blob, write_layer
from condastore.engine.jobs import ImageJob, Record
from condastore.engine.records import distribution, label
from condastore.engine.store import PackageStore, sync_file_system
from condastore.engine.workspace import workspace

_COMPILING = 5
_SCRIPTS = ("pre-link", "post-link")
_GLIBC = re.compile(r"^__glibc\s+>=\s*(\d+\.\d+)")


def make_image(job: ImageJob, events: Events) -> None:
    """Makes the layers of a job; each is told of as soon as its blob is there."""
    store = PackageStore(Path(job["packages_dir"]))
    store.prepare()
    with workspace(store.workspaces) as scratch:
        fetched = asyncio.run(fetch(job, store, scratch, events))
        doubtful = store.doubtful([store.package(record["sha256"]) for record in fetched])
        if doubtful:
            sync_file_system(store.workspaces)
            store.mark_durable(doubtful)
        records = [_record(record, store) for record in fetched]
        packages = [Package(store.package(r["sha256"]), r) for r in records]
        shelf = Shelf(store, Path(tempfile.mkdtemp(dir=scratch)))
        _make(job, packages, shelf, scratch, events)
        shelf.keep()


def _make(
    job: ImageJob, packages: list[Package], shelf: Shelf, scratch: Path, events: Events
) -> None:
    records = [package.record for package in packages]
    glibc = _glibc(records)
    _check_glibc(records, glibc, job["glibc"])
    layout = layout_of(job["prefix"], records, job["python_prefix"])
    target = Target(layout, job["codec"], job["level"], Path(job["blobs_dir"]), shelf)
    layers = [[packages[number] for number in layer["packages"]] for layer in job["layers"]]
    missing = {
        layer["key"]: made
        for layer, made in zip(job["layers"], layers, strict=True)
        if not layer["known"]
    }
    events.phase("layers")
    with _in_the_making(missing, target) as tasks:
        # While those processes work, all that this one has to do.
        members = {distribution(p.record): members_of(p, layout) for p in packages}
        check_links(packages, members)
        folder = Path(tempfile.mkdtemp(dir=scratch))
        entries = environment_entries(layers, members, target, job["variables"], job["pip"], folder)
        environment = _write(entries.values(), target)
        found = _host_libraries(members) if job["host_libraries"] else None
        libraries = _write(found, target) if found else None
        load_libraries()
        _tell(tasks, {key: _weight(made) for key, made in missing.items()}, events)
    events.result(
        libraries=_described(libraries) if libraries else None,
        environment=_described(environment),
        glibc=glibc,
        activates=activates(members, layout),
        scripts_not_run=sorted(_with_scripts(packages)),
        certificates=layout.path("ssl/cacert.pem") in _all(members),
    )


@contextmanager
def _in_the_making(
    missing: Mapping[str, list[Package]], target: Target
) -> Iterator[dict[Future[Blob], str]]:
    """Makes layers in as many processes as there are cores; the largest first."""
    if not missing:
        yield {}
        return
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(
        min(cores, len(missing)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=die_with_parent,
        initargs=(os.getpid(),),
    ) as pool:
        order = sorted(missing, key=lambda key: -_weight(missing[key]))
        try:
            yield {pool.submit(make_layer, missing[key], target): key for key in order}
        except BrokenProcessPool:
            raise EngineError("memory", "A process that makes layers was ended.") from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _tell(tasks: Mapping[Future[Blob], str], weights: Mapping[str, int], events: Events) -> None:
    """Tells of each layer when it is made."""
    total = sum(weights.values())
    done = 0
    events.progress("layers", 0, len(tasks), 0, total)
    for number, task in enumerate(as_completed(tasks)):
        blob, key = task.result(), tasks[task]
        events.layer(key=key, **_described(blob))
        done += weights[key]
        events.progress("layers", number + 1, len(tasks), done, total)


def _write(entries: Iterable[Entry], target: Target) -> Blob:
    return write_layer(entries, target.codec, target.level, target.directory)


def _host_libraries(members: Mapping[str, Members]) -> list[Entry]:
    """The libraries that the packages need, no package has, and this machine does."""
    entries = [member.entry for each in members.values() for member in each.values()]
    files = [entry for entry in entries if entry.kind != "directory"]
    provided = {os.path.basename(entry.path) for entry in files}
    needed = {
        name
        for entry in files
        if entry.source is not None and (entry.mode & 0o111 or ".so" in entry.path)
        for name in needed_libraries(entry.source)
    }
    return host_libraries(needed - provided)


def _record(fetched: Record, store: PackageStore) -> Record:
    """What the package says itself: the same from whichever lockfile it was fetched."""
    index = store.read_index(fetched["sha256"])
    origin = {key: fetched[key] for key in ("url", "channel", "fn")}
    subdir = fetched["url"].rsplit("/", 2)[1]
    return {"depends": [], "subdir": subdir, **index, **origin}


def _weight(packages: Iterable[Package]) -> int:
    # To compile takes several times as long as all else.
    return sum(
        int(p.record.get("size") or 0) * (_COMPILING if p.is_noarch_python else 1) for p in packages
    )


def _described(blob: Blob) -> dict[str, Any]:
    return {
        "diff_id": blob.diff_id,
        "digest": blob.digest,
        "size": blob.size,
        "media_type": blob.media_type,
    }


def _all(members: Mapping[str, Members]) -> set[str]:
    return {path for each in members.values() for path in each}


def _with_scripts(packages: Iterable[Package]) -> set[str]:
    return {
        package.record["name"]
        for package in packages
        for script in _SCRIPTS
        if (package.root / "bin" / f".{package.record['name']}-{script}.sh").exists()
    }


def _glibc(records: Sequence[Record]) -> str | None:
    """The newest glibc that a package asks for."""
    needs = [found[1] for r in records for spec in r["depends"] if (found := _GLIBC.match(spec))]
    return max(needs, key=_version, default=None)


def _check_glibc(records: Sequence[Record], need: str | None, have: str | None) -> None:
    if need is None or have is None or _version(need) <= _version(have):
        return
    names = [label(r) for r in records if any(need in s for s in r["depends"] if "__glibc" in s)]
    raise EngineError(
        "unsatisfiable",
        f"The base of the image has glibc {have}, but {', '.join(names[:3])} needs {need}: set "
        "c.Images.base to an image with a newer one.",
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
