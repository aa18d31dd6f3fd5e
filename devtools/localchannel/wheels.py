"""One wheel, read."""

from __future__ import annotations

import calendar
import configparser
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal, cast

from packaging.metadata import RawMetadata, parse_email
from packaging.utils import parse_wheel_filename

#: Where a file of a wheel belongs; ``lib`` is site-packages, be it pure or not.
Scheme = Literal["lib", "scripts", "data", "headers"]

# Written by whoever installs the wheel, so never copied from one.
_INSTALLER_FILES = {"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED"}


@dataclass(frozen=True)
class WheelFile:
    """A file of a wheel, with its path relative to its scheme."""

    scheme: Scheme
    path: str
    content: bytes
    executable: bool


@dataclass(frozen=True)
class EntryPoint:
    """A command: ``name`` calls ``function`` of ``module``."""

    name: str
    module: str
    function: str


class Wheel:
    """A wheel file; reads what is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.project, self.version, _, self.tags = parse_wheel_filename(path.name)

    @property
    def is_pure(self) -> bool:
        """Whether the wheel runs on any platform."""
        return all(tag.platform == "any" and tag.abi == "none" for tag in self.tags)

    @cached_property
    def dist_info(self) -> str:
        """The name of the ``.dist-info`` directory."""
        with zipfile.ZipFile(self.path) as archive:
            names = {name.partition("/")[0] for name in archive.namelist()}
        return next(name for name in sorted(names) if name.endswith(".dist-info"))

    @cached_property
    def metadata(self) -> RawMetadata:
        """The core metadata, unvalidated: old wheels break rules that came later."""
        return parse_email(self._read("METADATA"))[0]

    @cached_property
    def timestamp(self) -> int | None:
        """When the wheel was built, in seconds, unless a reproducible build hid it."""
        with zipfile.ZipFile(self.path) as archive:
            newest = max(entry.date_time for entry in archive.infolist())
        return calendar.timegm(newest) if newest[0] > 2016 else None

    def entry_points(self) -> list[EntryPoint]:
        """Return the console and GUI commands, sorted."""
        parser = configparser.ConfigParser(delimiters=("=",), interpolation=None, strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self._read("entry_points.txt").decode())
        commands = []
        for group in ("console_scripts", "gui_scripts"):
            for name, reference in parser.items(group) if parser.has_section(group) else ():
                module, _, function = reference.partition("[")[0].partition(":")
                commands.append(EntryPoint(name, module.strip(), function.strip()))
        return sorted(commands, key=lambda command: command.name)

    def files(self) -> Iterator[WheelFile]:
        """Yield every file that an installer would place."""
        with zipfile.ZipFile(self.path) as archive:
            for entry in archive.infolist():
                path = PurePosixPath(entry.filename)
                if entry.is_dir() or self._is_left_out(path):
                    continue
                scheme, relative = self._place(path)
                executable = bool(entry.external_attr >> 16 & 0o111)
                yield WheelFile(scheme, relative, archive.read(entry), executable)

    def _is_left_out(self, path: PurePosixPath) -> bool:
        of_installer = path.parent.name == self.dist_info and path.name in _INSTALLER_FILES
        return of_installer or "__pycache__" in path.parts

    def _place(self, path: PurePosixPath) -> tuple[Scheme, str]:
        if not path.parts[0].endswith(".data"):
            return "lib", str(path)
        scheme, relative = path.parts[1], str(PurePosixPath(*path.parts[2:]))
        return ("lib" if scheme in ("purelib", "platlib") else cast(Scheme, scheme)), relative

    def _read(self, name: str) -> bytes:
        with zipfile.ZipFile(self.path) as archive:
            try:
                return archive.read(f"{self.dist_info}/{name}")
            except KeyError:
                return b""
