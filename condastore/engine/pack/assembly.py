"""Puts an archive together: a fragment for each package, then what is the prefix's own."""

import os
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from condastore.engine.events import EngineError, Events, Phase
from condastore.engine.jobs import PackJob
from condastore.engine.pack.compression import Codec, Compressor, Pieces, codec_of
from condastore.engine.pack.contents import HISTORY, Contents, survey
from condastore.engine.pack.fragments import Fragments, NewFragment, Record
from condastore.engine.pack.installed import read_installed
from condastore.engine.pack.members import Members
from condastore.engine.pack.output import Checksum, Output
from condastore.engine.pack.parts import Part
from condastore.engine.pack.supply import Supply
from condastore.engine.pack.tree import walk
from condastore.engine.store import PackageStore
from condastore.engine.workspace import workspace

# One thread reads, hashes and writes while another computes in Python; at the usual 5 ms it would
# wait for that after each call.
_SWITCH_S = 0.0005
_NAMED = 5
_ATTEMPTS = 4


class _Revoked(Exception):
    """What was joined is not what the archive shall hold: these parts have to be packed first."""

    def __init__(self, parts: Sequence[Part] = ()) -> None:
        super().__init__(*parts)
        self.parts = parts


@contextmanager
def assembly(
    job: PackJob, archive_format: str, events: Events, phase: Phase
) -> Iterator["Assembly"]:
    """Finds out what the packages of a prefix brought; the job's own files are gone at the end."""
    events.phase(phase)
    sys.setswitchinterval(_SWITCH_S)
    store = PackageStore(Path(job["packages_dir"]))
    store.prepare()
    prefix = Path(job["prefix"])
    codec = codec_of(archive_format)
    with workspace(store.workspaces) as scratch, _vanishing():
        directory = store.fragments if job["fragments"] else scratch / "fragments"
        fragments = Fragments(directory, codec)
        installed = read_installed(prefix, fragments)
        supply = Supply(installed, Path(job["packages_dir"]), fragments)
        yield Assembly(prefix, supply, fragments, codec, scratch, events, phase)
        if job["fragments"] and "fragments_bytes" in job["limits"]:
            fragments.trim(job["limits"]["fragments_bytes"])


@contextmanager
def _vanishing() -> Iterator[None]:
    """Says it plainly if a file is removed that was there a moment ago."""
    try:
        yield
    except FileNotFoundError as error:
        text = f"{error.filename} vanished while it was packed."
        raise EngineError("package", text) from None


class Assembly:
    """One archive."""

    def __init__(
        self,
        prefix: Path,
        supply: Supply,
        fragments: Fragments,
        codec: Codec,
        scratch: Path,
        events: Events,
        phase: Phase,
    ) -> None:
        self.supply = supply
        self._prefix = prefix
        self._fragments = fragments
        self._codec = codec
        self._scratch = scratch
        self._events = events
        self._phase = phase

    @cached_property
    def contents(self) -> Contents:
        """All that it holds, for which the whole prefix is looked at."""
        contents = survey(walk(self._prefix), self.supply)
        _report_oddities(contents, self._events, self._phase)
        return contents

    @property
    def records(self) -> list[Record]:
        """The files of packages that `conda-unpack` changes."""
        parts = self.contents.parts
        return list(chain.from_iterable(part.fragment.records for part in parts if part.fragment))

    @property
    def unpacked_bytes(self) -> int:
        """How large the files are."""
        return self._own_bytes + sum(part.listing.bytes for part in self.contents.parts)

    def write(self, out: Output) -> None:
        """Writes the whole archive.

        If all packages are packed, they are joined while the prefix is looked at, and once more if
        it has other files. Damaged fragments are made anew.
        """
        parts = self.supply.parts
        if any(part.fragment is None for part in parts):
            parts = self._packed_parts()
        own = None
        for _ in range(_ATTEMPTS):
            try:
                with _joining(parts, out):
                    if parts != self.contents.parts:
                        raise _Revoked
                    own = own or self._pack_own()
                break
            except _Revoked as revoked:
                for part in revoked.parts:
                    part.fragment = None
                parts = self._packed_parts()
        else:
            raise EngineError("disk", "Files that were written a moment ago are damaged.")
        out.append(own, own.stat().st_size)

    def _packed_parts(self) -> list[Part]:
        """Makes the fragments that are not there."""
        parts = self.contents.parts
        with Compressor(self._codec) as compressor:
            for part in parts:
                if part.fragment is None:
                    self._pack_part(part, compressor)
            compressor.finish()
        return parts

    def _pack_part(self, part: Part, compressor: Compressor) -> None:
        new = NewFragment(self._fragments.path(part.key), self._scratch)
        pieces = Pieces(compressor, new.write)
        members = Members(os.fspath(self._prefix), pieces.write)
        for file in part.files():
            members.put(file, part.stamp)
        pieces.flush()
        compressor.then(partial(self._publish, part, new, members.records))

    def _publish(self, part: Part, new: NewFragment, records: list[Record]) -> None:
        part.fragment = new.publish(part.listing, records, part.installed)
        self._progress.add(len(part.listing.targets), part.listing.bytes)

    def _pack_own(self) -> Path:
        path = self._scratch / "own"
        with path.open("wb") as file, Compressor(self._codec) as compressor:
            pieces = Pieces(compressor, file.write)
            members = Members(os.fspath(self._prefix), pieces.write)
            for each in self.contents.own:
                members.put(each)
            members.finish([*self.records, *members.records], self._stamp())
            pieces.flush()
            compressor.finish()
        self._progress.add(len(self.contents.own), self._own_bytes)
        return path

    @cached_property
    def _own_bytes(self) -> int:
        return sum(_size(file.source) for file in self.contents.own)

    @cached_property
    def _progress(self) -> "_Progress":
        return _Progress(self.contents, self._own_bytes, self._events, self._phase)

    def _stamp(self) -> int:
        """When the environment was made, by its history."""
        try:
            return int((self._prefix / HISTORY).lstat().st_mtime)
        except FileNotFoundError:
            return 0


@contextmanager
def _joining(parts: Sequence[Part], out: Output) -> Iterator[None]:
    """Adds parts to the output during the block; all are taken back if that or the block fails."""
    failed = threading.Event()
    with out.revocable(), ThreadPoolExecutor(1) as thread:
        joining = thread.submit(_join, parts, out, failed)
        try:
            yield
        except BaseException:
            failed.set()
            raise
        joining.result()


def _join(parts: Sequence[Part], out: Output, failed: threading.Event) -> None:
    appended = []
    for part in parts:
        if failed.is_set():
            return
        appended.append((part, _append(part, out)))
    out.settle()
    damaged = [part for part, checksum in appended if not _is_intact(part, checksum)]
    if damaged:
        raise _Revoked(damaged)


def _append(part: Part, out: Output) -> Checksum | None:
    """Adds a fragment to the output, and returns its checksum-to-be, or nothing if it is gone."""
    assert part.fragment is not None
    try:
        return out.append(part.fragment.path, part.fragment.bytes)
    except (FileNotFoundError, ValueError):
        # Another job has removed it, as the one that was not used for longest.
        return None


def _is_intact(part: Part, checksum: Checksum | None) -> bool:
    """Whether the fragment that was added is the one that was packed."""
    assert part.fragment is not None
    return checksum is not None and checksum.value == part.fragment.crc


class _Progress:
    """Counts the files that are packed, and their bytes."""

    def __init__(self, contents: Contents, own_bytes: int, events: Events, phase: Phase) -> None:
        parts = contents.parts
        self._events = events
        self._phase = phase
        self._total = len(contents.own) + sum(len(part.listing.targets) for part in parts)
        self._total_bytes = own_bytes + sum(part.listing.bytes for part in parts)
        self._done = self._bytes = 0
        for part in parts:
            if part.fragment is not None:
                self.add(len(part.listing.targets), part.listing.bytes)

    def add(self, files: int, size: int) -> None:
        """Tells that so many more are done."""
        self._done = min(self._done + files, self._total)
        self._bytes = min(self._bytes + size, self._total_bytes)
        self._events.progress(self._phase, self._done, self._total, self._bytes, self._total_bytes)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _report_oddities(contents: Contents, events: Events, step: str) -> None:
    oddities = (
        (contents.changed, "differ from those of their packages, and are packed as they are"),
        (contents.missing, "of packages are gone, and are not packed"),
    )
    for files, what in oddities:
        if files:
            names = ", ".join(sorted(files)[:_NAMED]) + (", ..." if files[_NAMED:] else "")
            events.log(f"warning: {len(files)} files {what}: {names}", step)
    if contents.uncached:
        names = ", ".join(contents.uncached)
        text = "warning: these are not in the package store, so that their programs may still"
        events.log(f"{text} look for the prefix of this build: {names}", step)
