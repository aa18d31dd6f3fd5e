"""The fetch phase: every package of a build is in the store, each made by one process only."""

import asyncio
import os
import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from rattler.package_streaming import PackageArchive, download_and_extract

from condastore.engine.download import Archive, Downloader
from condastore.engine.events import EngineError, Events
from condastore.engine.failures import explain, not_here
from condastore.engine.jobs import FetchJob, Limits, Record
from condastore.engine.network import client
from condastore.engine.records import archive_hash, archive_stem, checked, completed, label
from condastore.engine.store import PackageStore, publish, write_origin
from condastore.engine.trees import measure_tree
from condastore.engine.validate import validate
from condastore.faults import fault

STEP = "action_fetch_and_extract_conda_packages"
_CLAIM_RETRY_S = 0.05
_WATCH_S = 0.5
# A thread that is amid one large file goes on for longer; the workspace is then moved, too.
_GIVE_UP_ATTEMPTS = 100
_GIVE_UP_WAIT_S = 0.02
# Bytes on disk for each byte of an archive: itself, and its files, as measured on 164 packages.
_EXPANSION = 5
_SECTIONS: tuple[Literal["info", "pkg"], ...] = ("info", "pkg")


async def fetch(
    job: FetchJob, store: PackageStore, workspace: Path, events: Events
) -> list[Record]:
    """Makes sure that the store has every package, and returns their complete records."""
    events.phase("fetch")
    records = [checked(record) for record in job["records"]]
    missing = [record for record in records if not _is_stored(store, record)]
    _log_plan(records, missing, events)
    if job["offline"]:
        _check_here(missing)
    _check_disk(store, missing, job["limits"])
    fetcher = _Fetcher(job, store, workspace, events, missing)
    # The largest first: the last one to come then does not keep the others waiting.
    async with asyncio.TaskGroup() as tasks:
        for record in sorted(missing, key=lambda r: -int(r.get("size") or 0)):
            tasks.create_task(fetcher.obtain(record))
    for record in records:
        # Rattler would do without a list that the disk can't read, and would put prefixes nowhere.
        store.read_list(record["sha256"])
    return [completed(record, store.read_index(record["sha256"])) for record in records]


class _Fetcher:
    """Gets the packages of one build that the store lacks."""

    def __init__(
        self,
        job: FetchJob,
        store: PackageStore,
        workspace: Path,
        events: Events,
        missing: Sequence[Record],
    ) -> None:
        self._store = store
        self._workspace = workspace
        self._limits = job["limits"]
        self._progress = _Progress(events, missing)
        self._client = client(job["credentials"], retries=0)
        self._downloader = Downloader(
            self._client,
            job["credentials"],
            workspace,
            job["limits"],
            self._progress.advance,
            lambda text: events.log(text, STEP),
        )
        self._transfers = asyncio.Semaphore(job["fetch_concurrency"])
        self._extractions = asyncio.Semaphore(os.cpu_count() or 1)

    async def obtain(self, record: Record) -> None:
        """Makes one package, or waits until another build has made it."""
        while not _is_stored(self._store, record):
            async with self._transfers:
                claim = self._store.claim(archive_hash(record))
                if claim is not None:
                    with claim:
                        if not _is_stored(self._store, record):
                            await self._make(record)
                    break
            await asyncio.sleep(_CLAIM_RETRY_S)
        self._progress.finish()

    async def _make(self, record: Record) -> None:
        archive = await self._downloader.get(record)
        async with self._extractions:
            tree = self._workspace / archive.sha256
            await self._extract(archive, tree, record)
            await asyncio.to_thread(validate, tree, record, self._limits)
            await _check_members(archive, record)
        record["sha256"] = archive.sha256
        write_origin(tree, {"md5": archive.md5, "sha256": archive.sha256, "size": archive.size})
        publish(tree, self._store.package(archive.sha256))
        fault("engine.published")
        if archive.path.parent == self._workspace:
            archive.path.unlink()

    async def _extract(self, archive: Archive, tree: Path, record: Record) -> None:
        # Unlike `extract`, this function leaves the interpreter free to do other things.
        extraction = asyncio.ensure_future(
            download_and_extract(self._client, archive.path.as_uri(), tree)
        )
        try:
            while not extraction.done():
                await asyncio.wait({extraction}, timeout=_WATCH_S)
                if not extraction.done():
                    await asyncio.to_thread(self._check_growth, tree, record)
            sha256, _ = await extraction
        except OSError as error:
            raise _explain_extraction(error, record) from None
        finally:
            await _give_up(extraction, tree)
        # The archive of a `file:` URL belongs to someone else, who may have replaced it meanwhile.
        if sha256.hex() != archive.sha256:
            raise EngineError("hash", f"Package {label(record)} changed while it was read.")

    def _check_growth(self, tree: Path, record: Record) -> None:
        # The archive's own idea of its size can't be believed, so what counts is what is there.
        amount = measure_tree(tree)
        for what, size, limit in (
            ("bytes", amount.bytes, self._limits["package_bytes"]),
            ("files", amount.files, self._limits["package_files"]),
        ):
            if size > limit:
                raise EngineError(
                    "package",
                    f"Package {label(record)} expands to more than the limit of {limit} {what}.",
                )


class _Progress:
    """Counts the packages and bytes of one fetch."""

    def __init__(self, events: Events, missing: Sequence[Record]) -> None:
        self._events = events
        self._packages = len(missing)
        self._bytes_total = sum(int(r.get("size") or 0) for r in missing)
        self._done = 0
        self._bytes = 0
        self._counting = threading.Lock()
        self._report()

    def advance(self, count: int) -> None:
        """Adds bytes that came; called by the threads that read them."""
        with self._counting:
            self._bytes += count
        if self._done < self._packages:
            self._report()

    def finish(self) -> None:
        """Adds a package that is done."""
        self._done += 1
        self._report()

    def _report(self) -> None:
        self._events.progress("fetch", self._done, self._packages, self._bytes, self._bytes_total)


async def _give_up(extraction: asyncio.Future[tuple[bytes, bytes]], tree: Path) -> None:
    """Ends an extraction that is not over.

    It is a thread of rattler that can't be stopped, and that makes the directories it misses: one
    that began late would leave them behind. It fails at its next file when its tree has moved.
    """
    for attempt in range(_GIVE_UP_ATTEMPTS):
        if extraction.done():
            break
        _move_away(tree, f".over{attempt}")
        await asyncio.wait({extraction}, timeout=_GIVE_UP_WAIT_S)
    if not extraction.cancel() and not extraction.cancelled():
        extraction.exception()  # asyncio complains of one that nobody asked for


def _move_away(tree: Path, suffix: str) -> None:
    with suppress(FileNotFoundError):
        tree.rename(tree.with_suffix(suffix))


async def _check_members(archive: Archive, record: Record) -> None:
    """Refuses a package with members that lead out of it, which extraction leaves out in silence.

    It comes after the extraction, which has limits, since it reads the archive to its end.
    """
    opened = await PackageArchive.from_path(archive.path)
    try:
        for section in _SECTIONS:
            await opened.list_files(section)
    except OSError as error:
        raise _explain_extraction(error, record) from None


def _is_stored(store: PackageStore, record: Record) -> bool:
    sha256 = record.get("sha256")
    return bool(sha256) and store.package(str(sha256)).is_dir()


def _explain_extraction(error: OSError, record: Record) -> EngineError:
    reason = explain(error)
    if reason.kind != "internal":
        return reason
    return EngineError("package", f"Package {label(record)} can't be unpacked: {error}")


def _check_here(missing: Sequence[Record]) -> None:
    """Refuses what would have to be fetched. Raises `EngineError`."""
    remote = [label(record) for record in missing if urlsplit(record["url"]).scheme != "file"]
    if remote:
        raise not_here("the packages " + ", ".join(remote))


def _check_disk(store: PackageStore, missing: Sequence[Record], limits: Limits) -> None:
    needed = sum(int(r.get("size") or 0) for r in missing) * _EXPANSION
    free = shutil.disk_usage(store.workspaces).free
    if free - needed < limits["disk_free_bytes"]:
        raise EngineError(
            "disk",
            f"Not enough space: {free} bytes are free, the packages need about {needed}, "
            f"and {limits['disk_free_bytes']} must stay free.",
        )


def _log_plan(records: Sequence[Record], missing: Sequence[Record], events: Events) -> None:
    absent = {id(record) for record in missing}
    rows = [("package", "version", "build", "channel", "")]
    for record in sorted(records, key=lambda r: str(r["name"])):
        build = archive_stem(record).rpartition("-")[2]
        source = record["url"].rsplit("/", 1)[0]
        state = "to fetch" if id(record) in absent else "in store"
        rows.append((record["name"], record["version"], build, source, state))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(row, [*widths, 0], strict=True)) for row in rows)
    events.log("\n".join(line.rstrip() for line in lines), STEP)
