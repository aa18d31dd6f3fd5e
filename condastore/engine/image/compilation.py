"""Byte code for an image: by an interpreter that has done nothing before, so always the same.

In a process that has compiled other things the same source gives equal code in other bytes, for
marshal notes which objects are shared. So each package gets a process of its own. The files are
marked as not to be checked against their sources: an image is read-only, and its times may be lost.
"""

import json
import os
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from condastore.engine.confine import die_with_parent
from condastore.engine.events import EngineError
from condastore.engine.image.entries import Entry
from condastore.engine.image.layout import Python

_WORKER = Path(__file__).with_name("compilation_worker.py").read_text()


def compiled(sources: Iterable[Entry], python: Python, scratch: Path) -> list[Entry]:
    """The `.pyc` files for the `.py` files of one package; what can't be compiled has none.

    `scratch` is an empty directory, which must live as long as the result is in use.
    """
    entries = sorted(sources, key=lambda entry: entry.path)
    if python.executable is None or not entries:
        return []
    outputs = {}
    work = []
    for number, entry in enumerate(entries):
        outputs[entry.path] = scratch / f"{number}.pyc"
        source = _on_disk(entry, scratch / f"{number}.py")
        work.append(json.dumps([source, f"/{entry.path}", os.fspath(outputs[entry.path])]))
    tag = _run("\n".join(work), python.executable, scratch)
    return [
        Entry(_cached(entry.path, tag), "file", 0o644, entry.mtime, source=os.fspath(output))
        for entry in entries
        if (output := outputs[entry.path]).exists()
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


def _run(work: str, executable: str, scratch: Path) -> str:
    """Compiles, and returns the tag in the names of such files, such as `cpython-311`."""
    done = subprocess.run(
        # Without site, so that no .pth file of a package is run.
        [executable, "-s", "-S", "-W", "ignore", "-c", _WORKER],
        input=work,
        stdout=subprocess.PIPE,
        text=True,
        # Older versions order the elements of sets by their hashes.
        env={"PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
        cwd=scratch,
        preexec_fn=partial(die_with_parent, os.getpid()),
        check=False,
    )
    if done.returncode != 0:
        raise EngineError(
            "engine", f"{executable}, which compiles, ended with status {done.returncode}."
        )
    return done.stdout.strip()


def _cached(path: str, tag: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{folder}/__pycache__/{name.removesuffix('.py')}.{tag}.pyc"
