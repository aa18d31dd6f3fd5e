"""The files that a package brings into an image, read from the package store.

What the package says about itself is not trusted: every path is checked again, since it becomes
one inside an image, and no link is followed.
"""

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from condastore.engine.events import EngineError
from condastore.engine.image.entries import Entry, directory, link, text
from condastore.engine.image.layout import Layout
from condastore.engine.image.placeholders import Placeholder, replaced
from condastore.engine.jobs import Record
from condastore.engine.records import label

_SITE_PACKAGES = "site-packages/"
_SCRIPTS = "python-scripts/"
_WHITEOUT = ".wh."
# As rattler writes them, to the last character.
_ENTRY_POINT = """\
#!{python}
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {imported}

if __name__ == '__main__':
\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
\tsys.exit({function}())
"""


@dataclass(frozen=True)
class Package:
    """A package in the store, whose record is complete."""

    root: Path
    record: Record

    @property
    def is_noarch_python(self) -> bool:
        """Whether its paths depend on the environment's Python."""
        return self.record.get("noarch") == "python"


@dataclass(frozen=True)
class Member:
    """A file, link or directory of a package, and what its manifest says of it."""

    entry: Entry
    manifest: dict[str, Any]
    placeholder: Placeholder | None = None

    def settled(self, prefix: str) -> "Member":
        """The same with its content as it is in the image, if that differs from the store's."""
        if self.placeholder is None:
            return self
        assert self.entry.source is not None
        data = replaced(_read(self.entry.source), self.placeholder, prefix)
        return replace(self, entry=replace(self.entry, data=data))


def members_of(package: Package, layout: Layout) -> dict[str, Member]:
    """The members of a package by their paths in the image; it reads none of their contents."""
    found: dict[str, Member] = {}
    for manifest in _manifest(package):
        member = _member(package, layout, manifest)
        if member is not None:
            found[member.entry.path] = member
    for entry in _entry_points(package, layout):
        found[entry.path] = Member(entry, {"path_type": "unix_python_entry_point"})
    for path, member in found.items():
        if member.entry.kind == "link":
            _check_link(package, layout, path, member.entry.target)
    return found


def _manifest(package: Package) -> list[dict[str, Any]]:
    try:
        data = json.loads((package.root / "info/paths.json").read_bytes())
    except FileNotFoundError:
        return _old_manifest(package)
    paths: list[dict[str, Any]] = data["paths"]
    return paths


def _old_manifest(package: Package) -> list[dict[str, Any]]:
    """That of a package older than conda 4.3."""
    # Imported here: few packages need it, and it takes a tenth of a second in each process.
    from rattler.package import PathsJson

    old = PathsJson.from_package_directory_with_deprecated_fallback(package.root)
    manifest = []
    for path in old.paths:
        entry: dict[str, Any] = {"_path": str(path.relative_path)}
        entry["path_type"] = "softlink" if path.path_type.softlink else "hardlink"
        if path.prefix_placeholder is not None:
            mode = "binary" if path.prefix_placeholder.file_mode.binary else "text"
            entry |= {
                "prefix_placeholder": path.prefix_placeholder.placeholder,
                "file_mode": mode,
            }
        manifest.append(entry)
    return manifest


def _member(package: Package, layout: Layout, manifest: dict[str, Any]) -> Member | None:
    name = os.path.normpath(manifest["_path"])
    if name.startswith(("/", "..")):
        raise _refusal(package, f"{name!r} is outside of the prefix")
    if f"/{_WHITEOUT}" in f"/{name}":
        raise _refusal(package, f"{name!r} would remove files of other layers")
    path = layout.path(_mapped(package, layout, name))
    root = os.fspath(package.root)
    source = f"{root}/{name}"
    try:
        status = os.lstat(source)
    except FileNotFoundError:
        if manifest.get("path_type") == "directory":
            return Member(directory(path), manifest)
        raise _refusal(package, f"{name!r} is missing") from None
    if not _is_plain(root, os.path.dirname(name)):
        raise _refusal(package, f"{name!r} is behind a link")
    mtime = int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        return Member(replace(link(path, os.readlink(source)), mtime=mtime), manifest)
    if stat.S_ISDIR(status.st_mode):
        return Member(directory(path), manifest)
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(package, f"{name!r} is a special file")
    mode = 0o755 if status.st_mode & 0o111 else 0o644
    entry = Entry(path, "file", mode, mtime, source=source)
    old = manifest.get("prefix_placeholder")
    placeholder = (old, manifest.get("file_mode") or "text") if old else None
    return Member(entry, manifest, placeholder)


def _mapped(package: Package, layout: Layout, name: str) -> str:
    """Where a file of a package belongs, below the prefix."""
    if not package.is_noarch_python:
        return name
    if name.startswith(_SITE_PACKAGES):
        if layout.python is None:
            raise _refusal(package, "it needs python, which the environment lacks")
        return f"{layout.python.site_packages}/{name.removeprefix(_SITE_PACKAGES)}"
    if name.startswith(_SCRIPTS):
        return f"bin/{name.removeprefix(_SCRIPTS)}"
    return name


def _entry_points(package: Package, layout: Layout) -> Iterator[Entry]:
    if not package.is_noarch_python or layout.python is None:
        return
    try:
        data = json.loads((package.root / "info/link.json").read_bytes())
    except FileNotFoundError:
        return
    for line in (data.get("noarch") or {}).get("entry_points") or ():
        command, _, target = line.partition("=")
        module, _, function = target.strip().partition(":")
        content = _ENTRY_POINT.format(
            python=f"{layout.prefix}/{layout.python.command}",
            module=module.strip(),
            imported=function.strip().partition(".")[0],
            function=function.strip(),
        )
        yield text(layout.path(f"bin/{command.strip()}"), content, 0o755)


def _check_link(package: Package, layout: Layout, path: str, target: str) -> None:
    # A noarch package's files move, and its links with them.
    prefix = layout.path("")
    leads_to = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if os.path.isabs(target) or not f"{leads_to}/".startswith(prefix):
        raise _refusal(package, f"{path!r} is a link to {target!r}, outside of the prefix")


@lru_cache(maxsize=1 << 14)
def _is_plain(root: str, name: str) -> bool:
    """Whether no part of a directory's path within a package is a link."""
    plain = os.path.normpath(f"{os.path.realpath(root)}/{name}")
    return os.path.realpath(f"{root}/{name}") == plain


def _refusal(package: Package, why: str) -> EngineError:
    return EngineError(
        "package", f"Package {label(package.record)} can't be part of an image: {why}."
    )


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as opened:
        return opened.read()
