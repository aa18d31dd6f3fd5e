"""Makes one layer out of one package, or of the few small ones that share the last."""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from condastore.engine.image.compilation import compiled, is_module
from condastore.engine.image.entries import Entry
from condastore.engine.image.layout import Layout
from condastore.engine.image.metadata import package_metadata
from condastore.engine.image.packages import Member, Package, members_of
from condastore.engine.image.tarball import Blob, write_layer


@dataclass(frozen=True)
class Target:
    """How layers are written, and where."""

    layout: Layout
    codec: str
    level: int
    directory: Path


def make_layer(packages: list[Package], target: Target) -> Blob:
    """Makes the layer of some packages; of a file that two of them have, that of the later stays.

    It is called in a process of its own, and leaves nothing but the blob.
    """
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=target.directory) as scratch:
        entries: dict[str, Entry] = {}
        for number, package in enumerate(packages):
            folder = Path(scratch, str(number))
            folder.mkdir()
            entries.update(package_entries(package, target.layout, folder))
        return write_layer(entries.values(), target.codec, target.level, target.directory)


def package_entries(
    package: Package, layout: Layout, scratch: Path, only: Collection[str] | None = None
) -> dict[str, Entry]:
    """What a package brings, by path; with `only`, just those files of it and their byte code."""
    members = members_of(package, layout)
    if only is not None:
        members = {path: member for path, member in members.items() if path in only}
    settled = {path: member.settled(layout.prefix) for path, member in members.items()}
    added = _compiled(package, settled, layout, scratch)
    entries = {path: member.entry for path, member in settled.items()}
    entries.update((entry.path, entry) for entry in added)
    if only is None:
        metadata = package_metadata(package, settled.values(), added, layout)
        entries[metadata.path] = metadata
    return entries


def _compiled(
    package: Package, members: dict[str, Member], layout: Layout, scratch: Path
) -> list[Entry]:
    python = layout.python
    if python is None or not package.is_noarch_python:
        return []
    sources = [
        member.entry
        for path, member in members.items()
        if member.entry.kind == "file" and is_module(path, python, layout.path(""))
    ]
    return [entry for entry in compiled(sources, python, scratch) if entry.path not in members]
