"""Where things are in an image, and with which Python."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condastore.engine.jobs import Record


@dataclass(frozen=True)
class Python:
    """The Python of an environment, as `noarch: python` packages need to know it."""

    site_packages: str
    """Below the prefix."""
    executable: str | None
    """One of the same version that runs on this machine and makes byte code, if there is one."""


@dataclass(frozen=True)
class Layout:
    """The prefix inside an image, without a slash at its end, and its Python."""

    prefix: str
    python: Python | None

    def path(self, name: str) -> str:
        """Where something of the prefix is, below the image's root."""
        return f"{self.prefix.lstrip('/')}/{name}"


def layout_of(prefix: str, records: list[Record], build_prefix: str | None) -> Layout:
    """The layout of an environment; only for completed records."""
    record = next((r for r in records if r["name"] == "python"), None)
    if record is None:
        return Layout(prefix, None)
    executable = None
    if build_prefix is not None:
        executable = os.path.join(build_prefix, "bin", "python")
    return Layout(prefix, Python(site_packages_of(record), executable))


def site_packages_of(python: Record) -> str:
    """Where a Python has its packages, below its prefix."""
    given: Any = python.get("python_site_packages_path")
    if given:
        return str(Path(given))
    major, minor = str(python["version"]).split(".")[:2]
    return f"lib/python{major}.{minor}/site-packages"
