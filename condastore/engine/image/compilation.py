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
from functools import lru_cache, partial
from itertools import accumulate
from pathlib import Path

from condastore.engine.confine import die_with_parent
from condastore.engine.events import EngineError
from condastore.engine.image.entries import Entry
from condastore.engine.image.layout import Python

_WORKER = Path(__file__).with_name("compilation_worker.py").read_text()


def compiled(sources: Iterable[Entry], python: Python, scratch: Path) -> list[Entry]:
    """The `.pyc` files for the `.py` files of one package; what can't be compiled has none.

    `scratch` is an empty directory.
    """
    entries = sorted(sources, key=lambda entry: entry.path)
    if python.executable is None or not entries:
        return []
    work = [
        json.dumps([_on_disk(entry, scratch / f"{number}.py"), f"/{entry.path}"])
        for number, entry in enumerate(entries)
    ]
    jobs = scratch / "jobs"
    jobs.write_text("\n".join(work))
    tag = _compiler(python.executable).compile(jobs)
    return [
        Entry(_cached(entry.path, tag), "file", 0o644, entry.mtime, data=data)
        for entry, data in zip(entries, _outputs(jobs), strict=True)
        if data is not None
    ]


def is_module(path: str, python: Python, prefix: str) -> bool:
    """Whether a path in an image is that of a Python module that can be imported."""
    return path.endswith(".py") and path.startswith(f"{prefix}{python.site_packages}/")


def _on_disk(entry: Entry, path: Path) -> str:
    if entry.data is None:
        assert entry.source is not None
        return entry.source
    path.write_bytes(entry.data)
    return os.fspath(path)


def _outputs(jobs: Path) -> list[memoryview | None]:
    """The byte code for each job; what a package has of it is not held in memory."""
    sizes: list[int | None] = json.loads(Path(f"{jobs}.sizes").read_bytes())
    if not any(sizes):
        return [None] * len(sizes)
    with open(f"{jobs}.pyc", "rb") as opened:
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

    def compile(self, jobs: Path) -> str:
        """Does the jobs, and returns the tag in the names of the files, such as `cpython-311`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{jobs}\n")
            self._process.stdin.flush()
        tag, _, status = self._process.stdout.readline().strip().partition(" ")
        if status != "0":
            raise EngineError("engine", f"{self._executable} can't compile ({status or 'ended'}).")
        return tag

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
