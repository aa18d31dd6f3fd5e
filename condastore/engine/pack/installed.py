"""The packages of a prefix, as its own metadata tells of them."""

import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condastore.engine.events import EngineError
from condastore.engine.pack.fragments import Fragments, Listing, joined, separated
from condastore.engine.pack.parts import File, Part

_META = "conda-meta"
# Packages with the prefix in their files have hashes that hold for one prefix only.
_OF_ONE_PREFIX = b'"sha256_in_prefix"'
_LAST_SECOND = 2**33 - 1  # that a tar archive of the old kind can tell
_DAMAGES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True)
class Installed:
    """One package; `source` is the directory that its files were linked from."""

    metadata: str
    name: str
    version: str
    subdir: str
    source: str
    files: list[str]
    site_packages: str | None
    timestamp: int


@dataclass(frozen=True)
class Metadata:
    """A package and its metadata as a part of an archive, or no part if it is for one prefix."""

    package: Installed
    part: Part | None


def read_installed(prefix: Path, fragments: Fragments) -> list[Metadata]:
    """Returns the packages by the names of their metadata; none if the prefix is no environment."""
    names: list[str] = []
    # A link is no metadata: what it leads to could be anyone's.
    if not (prefix / _META).is_symlink():
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(prefix / _META) as entries:
            names += (entry.name for entry in entries if entry.is_file(follow_symlinks=False))
    names = sorted(name for name in names if name.endswith(".json"))
    return [_read(os.fspath(prefix), f"{_META}/{name}", fragments) for name in names]


def site_packages_of(packages: Sequence[Installed]) -> str | None:
    """Returns where `noarch` packages have their modules, or nothing without a Python."""
    for package in packages:
        if package.name == "python":
            minor = ".".join(package.version.split(".")[:2])
            return package.site_packages or f"lib/python{minor}/site-packages"
    return None


def platform_of(packages: Sequence[Installed]) -> str | None:
    """Returns the platform that the packages run on, or nothing if they run everywhere."""
    subdirs = {package.subdir for package in packages} - {"noarch"}
    return min(subdirs, default=None)


def _read(root: str, path: str, fragments: Fragments) -> Metadata:
    source = os.path.join(root, path)
    with open(source, "rb") as file:
        data = file.read()
        status = os.fstat(file.fileno())
    if _OF_ONE_PREFIX in data:
        return Metadata(_parse(path, data), None)
    key = fragments.key_of_metadata(path, data, stat.S_IMODE(status.st_mode))
    fragment = fragments.load(key)
    if fragment is not None and fragment.installed is not None:
        about = fragment.installed
        package = Installed(**{**about, "files": separated(about["files"])})
        listing = fragment.listing
    else:
        package = _parse(path, data)
        listing = Listing(bytes=len(data), targets=[path])
    part = Part(
        key=key,
        files=lambda: [File(source, path)],
        stamp=package.timestamp,
        listing=listing,
        fragment=fragment,
        installed={**vars(package), "files": joined(package.files)},
    )
    return Metadata(package, part)


def _parse(path: str, data: bytes) -> Installed:
    try:
        about: dict[str, Any] = json.loads(data)
        files = [str(file) for file in about["files"]]
        if files != separated(joined(files)):
            raise ValueError("it has a file without a proper name")
        return Installed(
            metadata=path,
            name=str(about["name"]),
            version=str(about["version"]),
            subdir=str(about.get("subdir") or "noarch"),
            source=os.path.normpath((about.get("link") or {}).get("source") or "/"),
            files=files,
            site_packages=about.get("python_site_packages_path"),
            timestamp=min(max(int(about.get("timestamp") or 0) // 1000, 0), _LAST_SECOND),
        )
    except _DAMAGES as error:
        raise EngineError("package", f"{path} of the environment is damaged: {error}") from None
