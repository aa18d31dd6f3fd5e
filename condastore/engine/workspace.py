"""The private directory of one build, beside the packages that all builds share.

It is locked while its build lives. What a killed build leaves is found by its free lock, by the
next build or by a sweep.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condastore.engine.locks import held, hold_if_free
from condastore.engine.trees import Amount, remove_tree


@contextmanager
def workspace(root: Path) -> Iterator[Path]:
    """Makes a workspace below `root`, and removes it at the end with whatever is in it."""
    root.mkdir(parents=True, exist_ok=True)
    remove_abandoned(root)
    with held(root):
        directory = Path(tempfile.mkdtemp(dir=root))
        lock = hold_if_free(directory)
    assert lock is not None
    try:
        yield directory
    finally:
        # An extraction that nobody awaits any more goes on in a thread of rattler. It fails at
        # its next file when its directory is gone, whereas removing that in place would race it.
        directory.rename(directory.with_suffix(".over"))
        os.close(lock)
        remove_abandoned(root)


def remove_abandoned(root: Path) -> Amount:
    """Removes the workspaces whose builds are dead."""
    freed = Amount()
    with held(root):
        abandoned = [
            (path, lock)
            for path in root.iterdir()
            if path.is_dir() and (lock := hold_if_free(path)) is not None
        ]
    for path, lock in abandoned:
        freed += remove_tree(path)
        os.close(lock)
    return freed


@contextmanager
def alone(root: Path) -> Iterator[bool]:
    """Tells whether no build is alive, and lets none begin before the end of the block."""
    with held(root):
        yield not any(root.iterdir())
