"""The bytecode phase: `noarch: python` packages come without `.pyc` files.

Users could not write them into a shared prefix, and would compile at every import. Each package is
compiled once for each version of Python, by the first prefix that has both; every prefix gets hard
links. A `.pyc` is valid for the modification time of its source, so it is only linked beside a
source that is itself a link to the one which was compiled. Where the source had to be copied, for
want of hard links (F26-F28), it gets that time, and a copy of its `.pyc`.
"""

import errno
import filecmp
import json
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from condastore.engine.confine import die_with_parent
from condastore.engine.events import Events
from condastore.engine.jobs import Record
from condastore.engine.store import PackageStore, publish

STEP = "bytecode"
_CLAIM_RETRY_S = 0.1
_WORKER = Path(__file__).with_name("bytecode_worker.py")
_SITE_PACKAGES = "site-packages/"
# To another file system, on one that has none, and to a file that has as many as there may be.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)


@dataclass(frozen=True)
class _Python:
    """The interpreter of a prefix."""

    executable: Path
    site_packages: Path
    key: str


@dataclass(frozen=True)
class _Package:
    """A package in the store, and the place for its compiled files."""

    root: Path
    entry: Path


class _Failed(Exception):
    """The interpreter of the prefix does not work."""


def add_bytecode(
    prefix: Path, records: Sequence[Record], store: PackageStore, scratch: Path, events: Events
) -> list[Path]:
    """Gives a prefix its `.pyc` files, and returns the entries of the store that hold them."""
    python = _find_python(prefix, records)
    if python is None:
        return []
    events.phase("bytecode")
    packages = [
        _Package(store.package(r["sha256"]), store.bytecode(r["sha256"], python.key))
        for r in records
        if r.get("noarch") == "python"
    ]
    try:
        while missing := [package for package in packages if not package.entry.is_dir()]:
            if not _compile_unclaimed(missing, python, store, scratch, events):
                time.sleep(_CLAIM_RETRY_S)
    except _Failed as failed:
        events.log(f"warning: no Python files were compiled: {failed}", STEP)
        return []
    for package in packages:
        _link(package, python.site_packages)
    return [package.entry for package in packages]


def _find_python(prefix: Path, records: Sequence[Record]) -> _Python | None:
    executable = prefix / "bin" / "python"
    record = next((r for r in records if r["name"] == "python"), None)
    if record is None or not executable.exists():
        return None
    major, minor = str(record["version"]).split(".")[:2]
    site_packages = record.get("python_site_packages_path")
    site_packages = site_packages or f"lib/python{major}.{minor}/site-packages"
    key = f"{major}.{minor}" + ("-pypy" if "pypy" in record["build"] else "")
    return _Python(executable, prefix / site_packages, key)


def _compile_unclaimed(
    packages: Sequence[_Package],
    python: _Python,
    store: PackageStore,
    scratch: Path,
    events: Events,
) -> bool:
    with ExitStack() as claims:
        ours = []
        for package in packages:
            claim = store.claim(package.entry.name)
            if claim is not None:
                claims.enter_context(claim)
                if not package.entry.is_dir():
                    ours.append(package)
        outputs = {package: scratch / package.entry.name for package in ours}
        work = []
        for package, output in outputs.items():
            output.mkdir()
            work += [(os.fspath(p), n, os.fspath(output)) for p, n in _sources(package.root)]
        _compile(work, python.executable, scratch, events)
        for package, output in outputs.items():
            publish(output, package.entry)
    return bool(ours)


def _sources(root: Path) -> Iterator[tuple[Path, str]]:
    """The files to compile, and their names below site-packages."""
    try:
        manifest = json.loads((root / "info/paths.json").read_bytes())
    except FileNotFoundError:
        return
    for entry in manifest["paths"]:
        path = entry["_path"]
        # A file with the prefix in it differs in every prefix.
        is_module = path.startswith(_SITE_PACKAGES) and path.endswith(".py")
        if is_module and not entry.get("prefix_placeholder"):
            yield root / path, path.removeprefix(_SITE_PACKAGES)


def _compile(
    work: Sequence[tuple[str, str, str]], executable: Path, scratch: Path, events: Events
) -> None:
    done = 0
    events.progress("bytecode", done, len(work))
    read_end, write_end = os.pipe()
    workers = [
        _start_worker(number, part, executable, scratch, write_end)
        for number, part in enumerate(_parts(work))
    ]
    os.close(write_end)
    with open(read_end, "rb", buffering=0) as dots:
        while count := len(dots.read(4096)):
            done += count
            events.progress("bytecode", done, len(work))
    for status in [worker.wait() for worker in workers]:
        if status in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise OSError(status, os.strerror(status))
        if status != 0:
            raise _Failed(f"{executable} ended with status {status}")


def _parts(work: Sequence[tuple[str, str, str]]) -> list[Sequence[tuple[str, str, str]]]:
    """Equal shares for the workers, of which there is one for each core."""
    by_size = sorted(work, key=lambda item: os.stat(item[0]).st_size)
    cores = os.cpu_count() or 1
    return [part for number in range(cores) if (part := by_size[number::cores])]


def _start_worker(
    number: int,
    part: Sequence[tuple[str, str, str]],
    executable: Path,
    scratch: Path,
    dots: int,
) -> subprocess.Popen[bytes]:
    worklist = scratch / f"compile-{number}"
    worklist.write_text("".join(json.dumps(item) + "\n" for item in part))
    # Without site, so that no .pth file of a package is run; without the caller's environment.
    command = [os.fspath(executable), "-I", "-S", "-W", "ignore", os.fspath(_WORKER)]
    with open(worklist, "rb") as stdin:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=dots,
            env={},
            cwd=scratch,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )


def _link(package: _Package, site_packages: Path) -> None:
    compiled = os.fspath(package.entry)
    for directory, _, files in os.walk(compiled):
        if not files:
            continue
        relative = os.path.dirname(os.path.relpath(directory, compiled))
        target = os.path.join(site_packages, relative)
        source = os.path.join(package.root, _SITE_PACKAGES, relative)
        cache = os.path.join(target, "__pycache__")
        linked = _inodes(source)
        present = _inodes(target)
        for file in files:
            module = file.rsplit(".", 2)[0] + ".py"
            is_link = module in present and present[module] == linked.get(module)
            if is_link or _is_copy(os.path.join(source, module), os.path.join(target, module)):
                os.makedirs(cache, exist_ok=True)
                put = _link_or_copy if is_link else shutil.copyfile
                put(os.path.join(directory, file), os.path.join(cache, file))


def _is_copy(original: str, path: str) -> bool:
    """Whether a file has the content of a package's; if so, it gets its time as well."""
    try:
        status, copied = os.stat(original), os.lstat(path)
        # One that is shared belongs to another package, whose byte code needs its time.
        if copied.st_nlink > 1 or not stat.S_ISREG(copied.st_mode):
            return False
        if not filecmp.cmp(original, path, shallow=False):
            return False
    except FileNotFoundError:
        return False
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return True


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)


def _inodes(directory: str) -> dict[str, int]:
    """The inodes of a directory's entries."""
    try:
        with os.scandir(directory) as entries:
            return {entry.name: entry.inode() for entry in entries}
    except FileNotFoundError:
        return {}
