"""Where things are in an image, and with which Python."""

import os
from dataclasses import dataclass
from typing import Any

from condastore.engine.jobs import Record


@dataclass(frozen=True)
class Python:
    """The Python of an environment, as `noarch: python` packages need to know it."""

    command: str
    site_packages: str
    """Both below the prefix."""
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
    minor = ".".join(str(record["version"]).split(".")[:2])
    python = Python(f"bin/python{minor}", _site_packages(record, minor), executable)
    return Layout(prefix, python)


def _site_packages(python: Record, minor: str) -> str:
    given: Any = python.get("python_site_packages_path")
    return os.path.normpath(given) if given else f"lib/python{minor}/site-packages"
