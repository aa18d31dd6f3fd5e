"""The pip packages of an environment, taken from the prefix of its build.

They are installed nowhere else without running anything. What differs from build to build is left
out or made the same: the prefix in scripts, byte code, times, and how uv came by a file.
"""

import base64
import csv
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable
from importlib.metadata import Distribution, distributions
from pathlib import Path

from condastore.engine.events import EngineError
from condastore.engine.image.entries import EPOCH, Entry, file
from condastore.engine.image.layout import Layout

_NAME_SEPARATORS = re.compile(r"[-_.]+")
_LEFT_OUT = {"REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
# Uv writes the second form where the prefix is too long for the kernel.
_INTERPRETER = re.compile(rb"\A#!(?:(?!/bin/sh\n).*|/bin/sh\n'''exec' .*\n' ''')\n")


def pip_entries(prefix: Path, names: Iterable[str], layout: Layout) -> list[Entry]:
    """The files of some distributions in a prefix."""
    if layout.python is None:
        raise EngineError("package", "The environment has pip packages, but no Python.")
    wanted = {_canonical(name) for name in names}
    folder = prefix / layout.python.site_packages
    found = {
        name: each
        for each in distributions(path=[os.fspath(folder)])
        if (name := _canonical(each.name)) in wanted
    }
    missing = sorted(wanted - found.keys())
    if missing:
        raise EngineError(
            "package", f"The build's prefix lacks the pip packages {', '.join(missing)}."
        )
    entries = []
    for name in sorted(found):
        entries += _entries(found[name], prefix, layout)
    return entries


def _entries(distribution: Distribution, prefix: Path, layout: Layout) -> list[Entry]:
    assert layout.python is not None
    site_packages = layout.python.site_packages
    entries, rows, record = [], [], ""
    for listed in distribution.files or ():
        name = os.path.normpath(f"{site_packages}/{listed}")
        if name.startswith(("../", "/")):
            raise EngineError("package", f"{distribution.name} has a file outside of its prefix.")
        if name.endswith(".dist-info/RECORD"):
            record = name
            rows.append([str(listed), "", ""])
        elif not name.endswith(".pyc") and os.path.basename(name) not in _LEFT_OUT:
            entry = _entry(prefix, name, layout)
            entries.append(entry)
            assert entry.data is not None
            rows.append([str(listed), _hash(entry.data), str(len(entry.data))])
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(sorted(rows))
    return [*entries, file(layout.path(record), buffer.getvalue().encode())]


def _entry(prefix: Path, name: str, layout: Layout) -> Entry:
    path = prefix / name
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise EngineError("package", f"{path} is a special file.")
        data = opened.read()
    if os.fsencode(prefix) in data and b"\0" not in data:
        if name.startswith("bin/"):
            data = _INTERPRETER.sub(f"#!{layout.prefix}/bin/python\n".encode(), data)
        data = data.replace(os.fsencode(prefix), layout.prefix.encode())
    mode = 0o755 if status.st_mode & 0o111 else 0o644
    return Entry(layout.path(name), "file", mode, EPOCH, data=data)


def _hash(data: bytes | memoryview) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _canonical(name: str) -> str:
    return _NAME_SEPARATORS.sub("-", name).lower()
