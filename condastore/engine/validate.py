"""Decides whether an extracted package may be shared by environments, and makes it immutable."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condastore.engine.events import EngineError
from condastore.engine.jobs import Limits, Record
from condastore.engine.records import archive_stem, label

_LONGEST_PATH = 1000
_READ_BYTES = 1 << 20
# Control characters, and the surrogates by which Python shows bytes that are not UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
# The installer writes these into every prefix; a link to a package's file there would let it
# write into the package.
_RESERVED = re.compile(r"conda-meta/([^/]+\.json|history|state)|CACHEDIR\.TAG")
_COMMAND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


@dataclass
class _Tree:
    """What a walk through the package found."""

    sizes: dict[str, int]
    links: set[str]
    directories: set[str]


def validate(root: Path, record: Record, limits: Limits) -> dict[str, Any]:
    """Checks a package in full and returns its `info/index.json`.

    Every file gets a mode without write permission, since environments share its inode.
    """
    try:
        tree = _walk(root, limits)
        index = _check_index(root, record)
        _check_manifest(root, tree)
        _check_entry_points(root, tree)
    except _Unfit as unfit:
        raise EngineError("package", f"Package {label(record)} is not valid: {unfit}") from None
    return index


class _Unfit(Exception):
    """Why a package is refused."""


def _walk(root: Path, limits: Limits) -> _Tree:
    tree = _Tree({}, set(), set())
    total = 0
    for path, entry in _entries(os.fspath(root)):
        _check_name(path)
        status = entry.stat(follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            _make_immutable(entry.path, status)
            tree.sizes[path] = status.st_size
            total += status.st_size
        elif stat.S_ISDIR(status.st_mode):
            tree.directories.add(path)
        elif stat.S_ISLNK(status.st_mode):
            _check_link(root, path)
            tree.links.add(path)
        else:
            raise _Unfit(f"{path!r} is a special file")
        if len(tree.sizes) + len(tree.links) > limits["package_files"]:
            raise _Unfit(f"it has more than {limits['package_files']} files")
        if total > limits["package_bytes"]:
            raise _Unfit(f"it is larger than {limits['package_bytes']} bytes")
    return tree


def _entries(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    directories = [root]
    for directory in directories:
        os.chmod(directory, 0o755)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                yield entry.path[len(root) + 1 :], entry


def _check_name(path: str) -> None:
    if len(path) > _LONGEST_PATH:
        raise _Unfit(f"a path in it is longer than {_LONGEST_PATH} characters")
    if _UNPRINTABLE.search(path):
        raise _Unfit(f"{path!r} is not a file name that can be printed")


def _make_immutable(path: str, status: os.stat_result) -> None:
    mode = stat.S_IMODE(status.st_mode)
    if mode & (stat.S_ISUID | stat.S_ISGID):
        raise _Unfit(f"{path!r} is set-user-id or set-group-id")
    immutable = mode & 0o555 | 0o444
    if mode != immutable:
        os.chmod(path, immutable)


def _check_link(root: Path, path: str) -> None:
    target = os.readlink(root / path)
    lexical = os.path.normpath(os.path.join(os.path.dirname(path), target))
    outside = os.path.isabs(target) or lexical == ".." or lexical.startswith("../")
    if outside or not is_inside(root, root / path):
        raise _Unfit(f"{path!r} is a link to {target!r}, outside of the package")


def is_inside(root: Path, path: Path) -> bool:
    """Whether `path` leads to something below `root` when all links are followed."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _check_index(root: Path, record: Record) -> dict[str, Any]:
    index: dict[str, Any] = _read_json(root, "info/index.json")
    build = index.get("build")
    found = f"{index.get('name')}-{index.get('version')}-{build}".lower()
    expected = f"{record['name']}-{record['version']}-{record.get('build') or build}".lower()
    if not found == expected == archive_stem(record).lower():
        raise _Unfit(f"its info/index.json is that of {found!r}")
    return index


def _check_manifest(root: Path, tree: _Tree) -> None:
    # Packages older than conda 4.3 have no manifest; they are rare, and the archive's own hash
    # vouches for them.
    if "info/paths.json" not in tree.sizes:
        return
    for entry in _read_json(root, "info/paths.json")["paths"]:
        path = os.path.normpath(entry["_path"])
        if _RESERVED.fullmatch(path):
            raise _Unfit(f"{path!r} is for the installer to write")
        if path in tree.links or (path in tree.directories and entry["path_type"] == "directory"):
            continue
        if path not in tree.sizes:
            raise _Unfit(f"{path!r} of its info/paths.json is missing")
        if tree.sizes[path] != entry.get("size_in_bytes", tree.sizes[path]):
            raise _Unfit(f"{path!r} has another size than info/paths.json says")
        if "sha256" in entry and sha256_of(f"{root}/{path}") != entry["sha256"]:
            raise _Unfit(f"{path!r} has another content than info/paths.json says")


def _check_entry_points(root: Path, tree: _Tree) -> None:
    if "info/link.json" not in tree.sizes:
        return
    noarch = _read_json(root, "info/link.json").get("noarch") or {}
    for entry_point in noarch.get("entry_points") or ():
        command = entry_point.partition("=")[0].strip()
        if not _COMMAND.fullmatch(command):
            raise _Unfit(f"its entry point {command!r} is not the name of a command")
        if f"python-scripts/{command}" in tree.sizes:
            raise _Unfit(f"its entry point {command!r} would be written over its own file")


def _read_json(root: Path, path: str) -> Any:
    try:
        return json.loads((root / path).read_bytes())
    except (OSError, ValueError):
        raise _Unfit(f"{path} is missing or damaged") from None


def sha256_of(path: str) -> str:
    """Returns the hash of a file, in hexadecimal."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while data := os.read(descriptor, _READ_BYTES):
            digest.update(data)
    finally:
        os.close(descriptor)
    return digest.hexdigest()
