"""Byte code for an image: by an interpreter that has done nothing before, so always the same.

In a process that has compiled other things the same source gives equal code in other bytes, for
marshal notes which objects are shared. So each package gets a fork of an interpreter that has done
nothing yet. The files are marked as not to be checked against their sources: an image is read-only,
and its times may be lost.
"""

import atexit
import json
import mmap
import os
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import NoReturn

from condastore.engine.confine import die_with_parent
from condastore.engine.events import EngineError
from condastore.engine.image.entries import Entry
from condastore.engine.image.layout import Python
from condastore.engine.store import PackageStore, publish, sync_file_system

_WORKER = Path(__file__).with_name("compilation_worker.py").read_text()


@dataclass(frozen=True)
class Shelf:
    """The byte code of packages for images, kept in the store for the next image."""

    store: PackageStore
    new: Path
    """What is not kept yet; an empty directory on the file system of the store."""

    def keep(self) -> None:
        """Puts what is new into the store."""
        found = sorted(self.new.iterdir())
        if not found:
            return
        sync_file_system(self.new)
        kept = [self.store.bytecode(*tree.name.split("-", 1)) for tree in found]
        for tree, entry in zip(found, kept, strict=True):
            publish(tree, entry)
        self.store.mark_durable(kept)


def compiled(
    sources: Iterable[Entry],
    python: Python,
    scratch: Path,
    shelf: Shelf | None = None,
    package: str = "",
) -> list[Entry]:
    """The `.pyc` files for the `.py` files of one package; what can't be compiled has none.

    `scratch` is an empty directory. With a shelf and the hash of a package, whose contents and
    whose paths say it all, they may be there already.
    """
    entries = sorted(sources, key=lambda entry: entry.path)
    if python.executable is None or not entries:
        return []
    compiler = _compiler(python.executable)
    if shelf is None:
        results = _compile(entries, compiler, scratch, scratch / "results")
    else:
        results = shelf.store.bytecode(package, f"image-{_key(entries, compiler)}")
        if not results.is_dir():
            results = _compile(entries, compiler, scratch, shelf.new / results.name)
    return [
        Entry(_cached(entry.path, compiler.tag), "file", 0o644, entry.mtime, data=data)
        for entry, data in zip(entries, _outputs(results), strict=True)
        if data is not None
    ]


def _key(entries: Iterable[Entry], compiler: "_Compiler") -> str:
    """What the byte code of a package depends on besides the package."""
    means = [_WORKER, compiler.version, [entry.path for entry in entries]]
    return sha256(json.dumps(means).encode()).hexdigest()[:32]


def _compile(entries: list[Entry], compiler: "_Compiler", scratch: Path, results: Path) -> Path:
    """Compiles into a new directory, and returns it."""
    work = [
        json.dumps([_on_disk(entry, scratch / f"{number}.py"), f"/{entry.path}"])
        for number, entry in enumerate(entries)
    ]
    jobs = scratch / "jobs"
    jobs.write_text("\n".join(work))
    compiler.compile(jobs)
    results.mkdir()
    for kind in ("pyc", "sizes"):
        os.rename(f"{jobs}.{kind}", results / kind)
    return results


def is_module(path: str, python: Python, prefix: str) -> bool:
    """Whether a path in an image is that of a Python module that can be imported."""
    return path.endswith(".py") and path.startswith(f"{prefix}{python.site_packages}/")


def _on_disk(entry: Entry, path: Path) -> str:
    if entry.data is None:
        assert entry.source is not None
        return entry.source
    path.write_bytes(entry.data)
    return os.fspath(path)


def _outputs(results: Path) -> list[memoryview | None]:
    """The byte code for each job; what a package has of it is not held in memory."""
    sizes: list[int | None] = json.loads((results / "sizes").read_bytes())
    if not any(sizes):
        return [None] * len(sizes)
    with open(results / "pyc", "rb") as opened:
        whole = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    ends = accumulate(size or 0 for size in sizes)
    return [
        None if size is None else whole[end - size : end]
        for size, end in zip(sizes, ends, strict=True)
    ]


class _Compiler:
    """A Python that forks for each package, which costs less than to start it each time."""

    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._process = subprocess.Popen(
            # Without site, so that no .pth file of a package is run.
            [executable, "-s", "-S", "-W", "ignore", "-c", _WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Older versions order the elements of sets by their hashes.
            env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
            cwd="/",
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        atexit.register(self.close)
        # The tag is that in the names of the files, such as `cpython-311`.
        self.tag, self.version = json.loads(self._answer() or self._fails(""))

    def compile(self, jobs: Path) -> None:
        """Does the jobs."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{jobs}\n")
            self._process.stdin.flush()
        status = self._answer()
        if status != "0":
            self._fails(status)

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _fails(self, status: str) -> NoReturn:
        raise EngineError("engine", f"{self._executable} can't compile ({status or 'ended'}).")

    def close(self) -> None:
        """Ends it."""
        self._process.communicate()


@lru_cache
def _compiler(executable: str) -> _Compiler:
    """The one of this process."""
    return _Compiler(executable)


def _cached(path: str, tag: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
