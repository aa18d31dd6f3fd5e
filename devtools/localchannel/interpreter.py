"""The running Python turned into a conda package named ``python``."""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import os
import platform
import re
import struct
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from devtools.localchannel.elf import Elf
from devtools.localchannel.package import MTIME, File, Member, Package, Symlink
from devtools.localchannel.relocation import (
    UnsupportedInterpreter,
    movable_binary,
    relocatable_text,
)

_SUBDIRS = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
}

#: The conda name of this platform.
SUBDIR = _SUBDIRS.get((sys.platform, platform.machine()), f"{sys.platform}-{platform.machine()}")

_MAJOR, _MINOR = sys.version_info[:2]
_PYTHON = f"python{_MAJOR}.{_MINOR}"
# Where the interpreter was compiled to look for its library: lib, or lib64 on some systems.
_STDLIB = f"{sys.platlibdir}/{_PYTHON}"

# Large, and of no use in an environment that runs things.
_LEFT_OUT_DIRECTORIES = {
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtledemo",
}
_LEFT_OUT_FILES = re.compile(
    r"(_tkinter|_test\w*|_ctypes_test|_xxtestfuzz|xxlimited\w*|_tcl\w*)\.[\w-]+.*\.so"
    r"|EXTERNALLY-MANAGED|sitecustomize\.py|.*\.(a|o|exe)"
)
_KEPT_OF_CONFIG = {"Makefile"}

_SITECUSTOMIZE = f"""\
import site, sys
site.addsitedir(sys.prefix + "/lib/{_PYTHON}/site-packages")
"""


def python_bounds() -> list[str]:
    """Return what a package compiled for this Python depends on."""
    return [
        f"python >={_MAJOR}.{_MINOR},<{_MAJOR}.{_MINOR + 1}.0a0",
        f"python_abi {_MAJOR}.{_MINOR}.* *_cp{_MAJOR}{_MINOR}",
    ]


def interpreter_key() -> str:
    """Return what tells one interpreter from another, also after an update in place."""
    library = Path(os.__file__).stat()
    parts = [sys.version, sys.base_prefix, SUBDIR, str(library.st_mtime_ns)]
    return "\n".join(parts)


def python_package() -> Package:
    """Stage the running interpreter: binary, libraries, standard library."""
    if sys.platform != "linux":
        raise UnsupportedInterpreter(f"a local channel can be made on Linux, not on {sys.platform}")
    members = [*_binaries(), *_standard_library(), *_development_files()]
    digest = hashlib.sha256()
    for member in members:
        digest.update(member.path.encode())
        digest.update(member.content if isinstance(member, File) else member.target.encode())
    return Package(
        name="python",
        version=platform.python_version(),
        build=f"h{digest.hexdigest()[:7]}_0_cpython",
        subdir=SUBDIR,
        members=members,
        constrains=[f"python_abi {_MAJOR}.{_MINOR}.* *_cp{_MAJOR}{_MINOR}"],
        license="Python-2.0",
        about={
            "description": "The Python interpreter that made this channel.",
            "home": "https://www.python.org/",
            "summary": "General purpose programming language",
        },
        licenses=_license(),
    )


def python_abi_package() -> Package:
    """Return the empty package by which compiled packages name their Python."""
    return Package(
        name="python_abi",
        version=f"{_MAJOR}.{_MINOR}",
        build=f"0_cp{_MAJOR}{_MINOR}",
        subdir="noarch",
        members=[],
        constrains=[f"python {_MAJOR}.{_MINOR}.* *_cpython"],
        noarch="generic",
        license="BSD-3-Clause",
        about={"summary": "Metapackage to select Python implementation"},
    )


def _binaries() -> Iterator[Member]:
    executable = Path(sys.base_prefix, "bin", _PYTHON)
    if not executable.exists():
        executable = Path(getattr(sys, "_base_executable", sys.executable))
    elf = Elf(executable.read_bytes())
    yield File(f"bin/{_PYTHON}", movable_binary(executable, "$ORIGIN/../lib"), executable=True)
    yield Symlink(f"bin/python{_MAJOR}", _PYTHON)
    yield Symlink("bin/python", _PYTHON)
    for library in elf.needed:
        if library.startswith("libpython"):
            path = _library(library, executable, elf)
            yield File(f"lib/{library}", movable_binary(path, "$ORIGIN"), executable=True)


def _library(name: str, executable: Path, elf: Elf) -> Path:
    search = (elf.search_path or "").replace("$ORIGIN", str(executable.resolve().parent))
    directories = [
        *search.split(":"),
        sysconfig.get_config_var("LIBDIR") or "",
        f"{sys.base_prefix}/lib",
        f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or ''}",
    ]
    for directory in directories:
        if directory and Path(directory, name).exists():
            return Path(directory, name)
    raise UnsupportedInterpreter(f"the interpreter needs {name}, which is in none of {directories}")


def _standard_library() -> Iterator[Member]:
    root = Path(os.__file__).parent
    for path in _library_files(root):
        relative = path.relative_to(root)
        target = f"{_STDLIB}/{relative}"
        if path.suffix == ".so":
            yield File(target, movable_binary(path, "$ORIGIN/../.."), executable=True)
        elif path.name.startswith(("_sysconfig", "build-details")) or path.name == "Makefile":
            yield relocatable_text(target, path)
        else:
            source = _source(path)
            yield File(target, source)
            if path.suffix == ".py" and (bytecode := _bytecode(target, source)):
                yield File(_bytecode_path(target), bytecode)
    yield from _debian_remedy(root)
    # An empty directory does not exist in a package.
    yield File(f"lib/{_PYTHON}/site-packages/README.txt", b"Installed packages are kept here.\n")


def _library_files(root: Path) -> Iterator[Path]:
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = sorted(set(subdirectories) - _LEFT_OUT_DIRECTORIES)
        configuration = Path(directory).name.startswith("config-")
        for name in sorted(names):
            left_out = configuration and name not in _KEPT_OF_CONFIG
            if left_out or _LEFT_OUT_FILES.fullmatch(name):
                continue
            yield Path(directory, name)


def _debian_remedy(root: Path) -> Iterator[Member]:
    """Yield what makes a Debian interpreter look into site-packages.

    Its ``site`` knows dist-packages only, and is frozen into the binary.
    """
    if b"dist-packages" in (root / "site.py").read_bytes():
        yield File(f"{_STDLIB}/sitecustomize.py", _SITECUSTOMIZE.encode())


def _source(path: Path) -> bytes:
    """Return a file's content, with packages installed where conda does, not where Debian does."""
    content = path.read_bytes()
    if path.name == "sysconfig.py" or path.parent.name == "sysconfig":
        return content.replace(b"prefix_scheme = 'posix_local'", b"prefix_scheme = 'posix_prefix'")
    return content


def _bytecode(path: str, source: bytes) -> bytes | None:
    """Compile a module as the import system would, for the mtime that the archive gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            code = compile(source, path, "exec", dont_inherit=True)
        except SyntaxError:
            return None
    header = struct.pack("<III", 0, MTIME, len(source))
    return importlib.util.MAGIC_NUMBER + header + marshal.dumps(code)


def _bytecode_path(path: str) -> str:
    module = PurePosixPath(path)
    return str(module.parent / "__pycache__" / f"{module.stem}.{sys.implementation.cache_tag}.pyc")


def _development_files() -> Iterator[Member]:
    header = Path(sysconfig.get_config_h_filename())
    if header.exists():
        yield File(f"include/{_PYTHON}/pyconfig.h", header.read_bytes())
    base = Path(sys.base_prefix)
    for name in (f"python-{_MAJOR}.{_MINOR}.pc", f"python-{_MAJOR}.{_MINOR}-embed.pc"):
        if (path := base / "lib" / "pkgconfig" / name).exists():
            yield relocatable_text(f"lib/pkgconfig/{name}", path)
    for name in (f"pydoc{_MAJOR}.{_MINOR}", f"{_PYTHON}-config"):
        path = base / "bin" / name
        if path.exists() and path.read_bytes().startswith(b"#!"):
            yield relocatable_text(f"bin/{name}", path, executable=True)


def _license() -> dict[str, bytes]:
    path = Path(os.__file__).parent / "LICENSE.txt"
    return {"LICENSE.txt": path.read_bytes()} if path.exists() else {}
