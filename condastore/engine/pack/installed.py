"""The packages of a prefix, as its own metadata tells of them."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condastore.engine.events import EngineError
from condastore.engine.pack.tree import Tree

META = "conda-meta/"


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


def read_installed(tree: Tree) -> list[Installed]:
    """Returns the packages by the names of their metadata."""
    # A link is no metadata: what it leads to could be anyone's.
    return [_read(tree.root, path) for path in sorted(tree.inodes.keys() - tree.links) if _is(path)]


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


def _is(path: str) -> bool:
    return path.startswith(META) and path.endswith(".json") and path.count("/") == 1


def _read(root: str, path: str) -> Installed:
    try:
        about: dict[str, Any] = json.loads(Path(root, path).read_bytes())
        return Installed(
            metadata=path,
            name=str(about["name"]),
            version=str(about["version"]),
            subdir=str(about.get("subdir") or "noarch"),
            source=os.path.normpath((about.get("link") or {}).get("source") or "/"),
            files=[str(file) for file in about["files"]],
            site_packages=about.get("python_site_packages_path"),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineError("package", f"{path} of the environment is damaged: {error}") from None
