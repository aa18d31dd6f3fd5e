"""A wheel turned into a conda package, as ``pip install`` in a recipe would make it."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.metadata import RawMetadata
from packaging.specifiers import SpecifierSet

from devtools.localchannel.interpreter import SUBDIR, python_bounds
from devtools.localchannel.package import MTIME, PLACEHOLDER, File, Member, Package
from devtools.localchannel.requirements import conda_name, depends, version_spec
from devtools.localchannel.wheels import EntryPoint, Wheel, WheelFile

_PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"
_HEADERS = f"include/{_PYTHON}/"
# From site-packages up to the prefix, as RECORD has it.
_UP = "../../.."
_SHEBANG = f"#!{PLACEHOLDER}/bin/python\n".encode()

_ENTRY_POINT = """\
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {imported}

if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw?|\\.exe)?$", "", sys.argv[0])
    sys.exit({function}())
"""


def package_of(path: Path) -> Package:
    """Convert one wheel: a pure one to ``noarch: python``, any other to this platform."""
    wheel = Wheel(path)
    layout = _NoarchLayout() if wheel.is_pure else _PlatformLayout()
    files = list(wheel.files())
    commands = wheel.entry_points()
    members: list[Member] = [layout.place(file) for file in files]
    if not wheel.is_pure:
        members += [_command(command) for command in commands]
    members += _installer_files(wheel, layout, files, commands)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:7]
    return Package(
        name=conda_name(wheel.project),
        version=str(wheel.version),
        build=f"{layout.build_prefix}h{digest}_0",
        subdir=layout.subdir,
        members=members,
        depends=[
            *layout.python_depends(wheel.metadata),
            *depends(wheel.metadata.get("requires_dist", [])),
        ],
        noarch="python" if wheel.is_pure else None,
        entry_points=[f"{c.name} = {c.module}:{c.function}" for c in commands],
        license=_license(wheel.metadata),
        timestamp=wheel.timestamp or MTIME,
        about=_about(wheel.metadata),
        licenses=_licenses(wheel, files),
    )


class _NoarchLayout:
    """Paths that the installer maps to whichever Python is in the prefix."""

    subdir = "noarch"
    build_prefix = "py"
    site_packages = "site-packages"
    scripts = "python-scripts"

    def python_depends(self, metadata: RawMetadata) -> list[str]:
        bounds = SpecifierSet(metadata.get("requires_python", ""))
        return [f"python {version_spec(bounds) or '>=3'}"]

    def place(self, file: WheelFile) -> File:
        """Return the file where it belongs, with its shebang made relocatable."""
        if file.scheme == "scripts":
            script = file.content.startswith(b"#!python")
            content = _SHEBANG + file.content.partition(b"\n")[2] if script else file.content
            return File(f"{self.scripts}/{file.path}", content, True, script)
        roots = {"lib": f"{self.site_packages}/", "data": "", "headers": _HEADERS}
        return File(roots[file.scheme] + file.path, file.content, file.executable)


class _PlatformLayout(_NoarchLayout):
    """Paths as they are in the prefix, for this Python's minor version alone."""

    subdir = SUBDIR
    build_prefix = f"py{sys.version_info.major}{sys.version_info.minor}"
    site_packages = f"lib/{_PYTHON}/site-packages"
    scripts = "bin"

    def python_depends(self, metadata: RawMetadata) -> list[str]:
        return python_bounds()


def _command(command: EntryPoint) -> File:
    imported = command.function.partition(".")[0]
    body = _ENTRY_POINT.format(module=command.module, imported=imported, function=command.function)
    return File(f"bin/{command.name}", _SHEBANG + body.encode(), True, True)


def _installer_files(
    wheel: Wheel,
    layout: _NoarchLayout,
    files: Sequence[WheelFile],
    commands: Iterable[EntryPoint],
) -> list[File]:
    """Return ``INSTALLER``, ``REQUESTED`` and ``RECORD``, by which pip knows the package."""
    info = wheel.dist_info
    written = {f"{info}/INSTALLER": b"conda\n", f"{info}/REQUESTED": b""}
    roots = {"lib": "", "scripts": f"{_UP}/bin/", "data": f"{_UP}/", "headers": f"{_UP}/{_HEADERS}"}
    # What scripts hold depends on the prefix, so their hashes are not recorded.
    unhashed = [f"{info}/RECORD", *(f"{_UP}/bin/{command.name}" for command in commands)]
    unhashed += [roots["scripts"] + file.path for file in files if file.scheme == "scripts"]
    hashed = {
        roots[file.scheme] + file.path: file.content for file in files if file.scheme != "scripts"
    }
    rows = [[path, *_hash(content)] for path, content in {**hashed, **written}.items()]
    rows += [[path, "", ""] for path in unhashed]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(sorted(rows))
    written[f"{info}/RECORD"] = buffer.getvalue().encode()
    return [File(f"{layout.site_packages}/{path}", data) for path, data in written.items()]


def _hash(content: bytes) -> list[str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return [f"sha256={digest}", str(len(content))]


def _license(metadata: RawMetadata) -> str:
    """Return a short name of the license: many old projects put the whole text in the field."""
    expression = metadata.get("license_expression") or metadata.get("license", "")
    if expression and "\n" not in expression and len(expression) <= 80:
        return expression
    for classifier in metadata.get("classifiers", []):
        if classifier.startswith("License ::"):
            return classifier.rpartition(" :: ")[2]
    return "Unknown"


def _about(metadata: RawMetadata) -> dict[str, str]:
    summary = metadata.get("summary", "")
    urls = {label.lower(): url for label, url in metadata.get("project_urls", {}).items()}
    home = metadata.get("home_page") or urls.get("homepage", "")
    source = urls.get("source") or urls.get("repository") or urls.get("source code", "")
    documentation = urls.get("documentation", "")
    about = {"description": summary, "dev_url": source, "doc_url": documentation}
    return {**about, "home": home, "summary": summary}


def _licenses(wheel: Wheel, files: Iterable[WheelFile]) -> dict[str, bytes]:
    texts = {}
    for file in files:
        directory, _, name = file.path.rpartition("/")
        if directory.startswith(wheel.dist_info) and name.upper().startswith(("LICEN", "COPYING")):
            texts[name] = file.content
    return texts
