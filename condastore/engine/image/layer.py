"""Makes one layer out of one package, or of the few small ones that share the last."""

import tempfile
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from condastore.engine.image.compilation import Shelf, compiled, is_module
from condastore.engine.image.entries import Entry
from condastore.engine.image.layout import Layout
from condastore.engine.image.metadata import package_metadata
from condastore.engine.image.packages import Package, members_of
from condastore.engine.image.tarball import Blob, write_layer


@dataclass(frozen=True)
class Target:
    """How layers are written, and where."""

    layout: Layout
    codec: str
    level: int
    directory: Path
    shelf: Shelf | None = None


def make_layer(packages: list[Package], target: Target) -> Blob:
    """Makes the layer of some packages; of a file that two of them have, that of the later stays.

    It is called in a process of its own, and leaves nothing but the blob.
    """
    # What is kept in the end is moved there.
    beside = target.directory if target.shelf is None else target.shelf.new.parent
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=beside) as scratch:
        entries: dict[str, Entry] = {}
        taken: set[str] = set()
        for number, package in reversed(list(enumerate(packages))):
            folder = Path(scratch, str(number))
            folder.mkdir()
            found, paths = _package_entries(package, target, folder, taken)
            entries.update(found)
            taken |= paths
        return write_layer(entries.values(), target.codec, target.level, target.directory)


def restored_entries(
    package: Package, paths: Collection[str], layout: Layout, scratch: Path
) -> dict[str, Entry]:
    """Some files of a package by path, with byte code for whatever is a module."""
    members = members_of(package, layout)
    entries = {path: members[path].settled(layout.prefix).entry for path in paths}
    added = _compiled(entries.values(), layout, scratch)
    return entries | {entry.path: entry for entry in added}


def _package_entries(
    package: Package, target: Target, scratch: Path, taken: Collection[str]
) -> tuple[dict[str, Entry], set[str]]:
    """What a package brings, by path, but for what others have, and the paths of its files."""
    layout = target.layout
    members = {
        path: member.settled(layout.prefix) for path, member in members_of(package, layout).items()
    }
    entries = {
        path: member.entry
        for path, member in members.items()
        if member.entry.kind == "directory" or path not in taken
    }
    sources = entries.values() if package.is_noarch_python else ()
    made = _compiled(sources, layout, scratch, target.shelf, package)
    added = [entry for entry in made if entry.path not in members]
    metadata = package_metadata(package, members.values(), added, layout)
    files = {path for path, entry in entries.items() if entry.kind != "directory"}
    return {**entries, **{e.path: e for e in added}, metadata.path: metadata}, files


def _compiled(
    sources: Iterable[Entry],
    layout: Layout,
    scratch: Path,
    shelf: Shelf | None = None,
    package: Package | None = None,
) -> list[Entry]:
    python = layout.python
    if python is None:
        return []
    modules = [
        entry
        for entry in sources
        if entry.kind == "file" and is_module(entry.path, python, layout.path(""))
    ]
    return compiled(modules, python, scratch, shelf, package.record["sha256"] if package else "")
