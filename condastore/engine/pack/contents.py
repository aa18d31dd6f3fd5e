"""Which file of a prefix comes from which package, as conda-pack sees it.

Files that are as their package brought them are taken from the package store, with the prefix's
placeholder still in them. All others are the prefix's own: entry points, metadata, what pip
installed, and files of packages that were changed since.
"""

import codecs
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import source_from_cache
from pathlib import Path

from condastore.engine.events import EngineError
from condastore.engine.pack.fragments import ANY, Fragments, Listing
from condastore.engine.pack.installed import (
    Installed,
    Metadata,
    read_installed,
    site_packages_of,
)
from condastore.engine.pack.parts import File, Part
from condastore.engine.pack.tree import Tree

HISTORY = "conda-meta/history"
_BIN = "bin/"
# What old versions of conda put into every environment; conda-pack brings its own.
_REPLACED = {"bin/conda", "bin/activate", "bin/deactivate"}
_READ_BYTES = 1 << 20
_CACHE = "__pycache__/"
_DOTS = 2


@dataclass
class Contents:
    """Everything that an archive of a prefix holds, and what is odd about the prefix."""

    packages: list[Installed]
    site_packages: str | None
    parts: list[Part] = field(default_factory=list)
    own: list[File] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    uncached: list[str] = field(default_factory=list)


def survey(tree: Tree, packages_dir: Path, fragments: Fragments) -> Contents:
    """Returns what an archive holds, in an order that depends on nothing but the prefix."""
    metadata = read_installed(tree, fragments)
    packages = [each.package for each in metadata]
    contents = Contents(packages, site_packages_of(packages))
    _Survey(contents, tree, packages_dir, fragments).run(metadata)
    return contents


class _Survey:
    """Gives every file of the tree its place, package by package, and the rest at the end."""

    def __init__(
        self, contents: Contents, tree: Tree, packages_dir: Path, fragments: Fragments
    ) -> None:
        self._contents = contents
        self._tree = tree
        self._packages_dir = packages_dir
        self._fragments = fragments
        self._managed: set[str] = set()
        self._placed: set[str] = set()

    def run(self, metadata: Sequence[Metadata]) -> None:
        for each in metadata:
            package = each.package
            is_stored = self._is_stored(package.source)
            if each.part is not None and is_stored:
                self._contents.parts.append(each.part)
                self._placed.add(package.metadata)
            else:
                self._add_own(package.metadata, as_it_is=True)
            if is_stored:
                self._add_stored(package)
            else:
                self._contents.uncached.append(package.name)
                self._managed.update(package.files)
        if HISTORY in self._tree.inodes:
            self._add_own(HISTORY, as_it_is=True)
        self._add_rest()
        self._contents.own.sort(key=lambda file: str(file.target))

    def _is_stored(self, source: str) -> bool:
        # What lies elsewhere is not known to be what it was when it was checked.
        return source.startswith(f"{self._packages_dir}/") and os.path.isdir(source)

    def _add_stored(self, package: Installed) -> None:
        is_noarch = _is_noarch_python(package.source)
        site_packages = self._contents.site_packages if is_noarch else None
        part = self._part(package.source, site_packages, frozenset())
        targets = {*part.listing.targets, *part.listing.directories}
        omitted = targets - self._as_linked(part.listing)
        if omitted:
            found = omitted & self._tree.inodes.keys()
            self._contents.changed += found - self._placed
            self._contents.missing += omitted - found - set(part.listing.directories)
            part = self._part(package.source, site_packages, frozenset(omitted))
        self._contents.parts.append(part)
        self._managed |= targets
        self._placed |= targets - omitted
        if is_noarch:
            self._add_made_by_installer(set(package.files) - targets)

    def _part(self, source: str, site_packages: str | None, omitted: frozenset[str]) -> Part:
        key = self._fragments.key(source, site_packages, omitted)
        fragment = self._fragments.load(key)
        if fragment is not None:
            files = partial(_files_of, source, site_packages, omitted)
            return Part(key, fragment.listing, files, fragment)
        found = _files_of(source, site_packages, omitted)
        return Part(key, _list(found), lambda: found, None)

    def _as_linked(self, listing: Listing) -> set[str]:
        """Those files of a package that the tree has as the package brought them."""
        inodes = self._tree.inodes
        shared = listing.device == self._tree.device
        same: set[str] = set()
        linked = shared and listing.inodes == list(map(inodes.get, listing.targets))
        if linked and not listing.directories and self._placed.isdisjoint(listing.targets):
            # Usually so, and much sooner found than file by file.
            return set(listing.targets)
        columns = (listing.targets, listing.inodes, listing.sizes, listing.mtimes)
        for target, inode, size, mtime in zip(*columns, strict=True):
            found = inodes.get(target)
            # Two packages may have a file at the same place: it is of one of them.
            if found is None or target in self._placed:
                continue
            if (shared and found == inode) or self._is_copy(target, size, mtime, listing.links):
                same.add(target)
        return same | (self._tree.empty & set(listing.directories)) - self._placed

    def _is_copy(self, target: str, size: int, mtime: int, links: dict[str, str]) -> bool:
        path = os.path.join(self._tree.root, target)
        if target in links or target in self._tree.links:
            return target in self._tree.links and os.readlink(path) == links.get(target)
        status = os.lstat(path)
        # Rattler makes a text with the prefix in it one second younger, other engines as young as
        # it is. Then it is packed from the prefix, where it is relocated as well.
        is_timely = mtime == ANY or 0 <= int(status.st_mtime) - mtime <= 1
        return is_timely and size in (status.st_size, ANY)

    def _add_made_by_installer(self, made: set[str]) -> None:
        self._managed |= made
        for target in made:
            if target in self._tree.inodes and target not in self._placed:
                self._add_own(target, as_it_is=not target.startswith(_BIN))

    def _add_rest(self) -> None:
        rest = (self._tree.inodes.keys() | self._tree.empty) - self._placed - _REPLACED
        for target in rest:
            # Byte code that no package lists is left out: Python makes it again.
            if target in self._managed or _source_of(target) not in self._managed:
                self._add_own(target, as_it_is=False)

    def _add_own(self, target: str, *, as_it_is: bool) -> None:
        self._placed.add(target)
        root = self._tree.root
        path = os.path.join(root, target)
        file = File(path, target)
        # Of links and directories conda_pack is told that they are texts: it doesn't read those.
        unread = target not in self._tree.inodes or target in self._tree.links
        if unread or (not as_it_is and _is_text(path)):
            file = File(path, target, "text", root)
        self._contents.own.append(file)


def _files_of(source: str, site_packages: str | None, omitted: frozenset[str]) -> list[File]:
    """Returns what a package of the store brings, and where it belongs in a prefix."""
    # What its metadata lists beside that was made by the installer, and is the prefix's own.
    # Imported here because packages that are packed don't need it, and it takes long.
    from conda_pack.core import CondaPackException, load_managed_package

    info = {"name": os.path.basename(source), "link": {"source": source}, "files": []}
    try:
        files: list[File] = load_managed_package(info, "", site_packages, {})
    except (CondaPackException, OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError("package", f"The package {source} can't be packed: {error}") from None
    return sorted((f for f in files if f.target not in omitted), key=lambda file: str(file.target))


def _list(files: Sequence[File]) -> Listing:
    listing = Listing()
    for file in files:
        status = os.lstat(file.source)
        listing.device = status.st_dev
        listing.bytes += status.st_size
        if stat.S_ISDIR(status.st_mode):
            listing.directories.append(file.target)
            continue
        if stat.S_ISLNK(status.st_mode):
            listing.links[file.target] = os.readlink(file.source)
        listing.targets.append(file.target)
        listing.inodes.append(status.st_ino)
        listing.sizes.append(ANY if file.file_mode == "text" else status.st_size)
        listing.mtimes.append(ANY if file.file_mode == "binary" else int(status.st_mtime))
    return listing


def _is_noarch_python(source: str) -> bool:
    """Whether conda_pack thinks so."""
    for name in ("link.json", "package_metadata.json"):
        try:
            with open(os.path.join(source, "info", name), "rb") as file:
                noarch = json.load(file).get("noarch")
            return isinstance(noarch, dict) and noarch.get("type") == "python"
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            text = f"The package {source} can't be packed: {error}"
            raise EngineError("package", text) from None
    return False


def _source_of(path: str) -> str | None:
    """Returns whose byte code a file is, or nothing if it is none by its name."""
    if _CACHE not in path:
        return None
    folder, _, name = path.rpartition("/" + _CACHE)
    if name.count(".") == _DOTS and "/" not in name:
        return f"{folder}/{name.partition('.')[0]}.py"
    try:
        return source_from_cache(path)
    except ValueError:
        return None


def _is_text(path: str) -> bool:
    """Whether conda-pack would look for the prefix in a file: whether all of it is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(path, "rb") as file:
            while data := file.read(_READ_BYTES):
                decoder.decode(data)
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
