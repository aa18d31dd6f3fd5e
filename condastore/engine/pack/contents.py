"""Which file of a prefix comes from which package, as conda-pack sees it.

Files that are as their package brought them are taken from the package store, with the prefix's
placeholder still in them. All others are the prefix's own: entry points, metadata, what pip
installed, and files of packages that were changed since.
"""

import codecs
import os
from dataclasses import dataclass, field
from importlib.util import source_from_cache

from condastore.engine.pack.fragments import ANY, Listing
from condastore.engine.pack.parts import File, Part
from condastore.engine.pack.supply import Brought, Supply
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

    parts: list[Part] = field(default_factory=list)
    own: list[File] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    uncached: list[str] = field(default_factory=list)


def survey(tree: Tree, supply: Supply) -> Contents:
    """Returns what an archive holds, in an order that depends on nothing but the prefix."""
    contents = Contents()
    _Survey(contents, tree, supply).run()
    return contents


class _Survey:
    """Gives every file of the tree its place, package by package, and the rest at the end."""

    def __init__(self, contents: Contents, tree: Tree, supply: Supply) -> None:
        self._contents = contents
        self._tree = tree
        self._supply = supply
        self._managed: set[str] = set()
        self._placed: set[str] = set()

    def run(self) -> None:
        for brought in self._supply.brought:
            package = brought.package
            if brought.metadata is not None:
                self._contents.parts.append(brought.metadata)
                self._placed.add(package.metadata)
            else:
                self._add_own(package.metadata, as_it_is=True)
            if brought.files is not None:
                self._add_files(brought, brought.files)
            else:
                self._contents.uncached.append(package.name)
                self._managed.update(package.files)
        if HISTORY in self._tree.inodes:
            self._add_own(HISTORY, as_it_is=True)
        self._add_rest()
        self._contents.own.sort(key=lambda file: str(file.target))

    def _add_files(self, brought: Brought, part: Part) -> None:
        targets = {*part.listing.targets, *part.listing.directories}
        omitted = targets - self._as_linked(part.listing)
        if omitted:
            found = omitted & self._tree.inodes.keys()
            self._contents.changed += found - self._placed
            self._contents.missing += omitted - found - set(part.listing.directories)
            part = self._supply.without(frozenset(omitted), brought)
        self._contents.parts.append(part)
        self._managed |= targets
        self._placed |= targets - omitted
        if brought.is_noarch:
            self._add_made_by_installer(set(brought.package.files) - targets)

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
