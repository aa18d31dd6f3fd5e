"""Removes and measures directory trees, however their owner left them."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from condastore.engine.pace import Pace


@dataclass
class Amount:
    """Files and the bytes in them."""

    files: int = 0
    bytes: int = 0

    def __iadd__(self, other: "Amount") -> "Amount":
        self.files += other.files
        self.bytes += other.bytes
        return self


def remove_tree(root: Path, pace: Pace | None = None) -> Amount:
    """Removes a tree, link or file, at a pace; tells what that freed.

    A file counts when its last link goes: one that other trees share frees nothing, and two links
    within the tree count once.
    """
    freed = Amount()
    pace = pace or Pace(0)
    directories = _directories_to_remove(root, freed)
    for directory in directories:
        for entry in _list_writable(directory):
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.path)
            else:
                _remove_file(entry.path, freed)
                pace.step()
    for directory in reversed(directories):
        os.rmdir(directory)
        pace.step()
    return freed


def measure_tree(root: Path) -> Amount:
    """What is in a tree that others may be changing."""
    amount = Amount()
    directories = [os.fspath(root)]
    for directory in directories:
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(entry.path)
                    amount.files += 1
                    amount.bytes += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            continue
    return amount


def _directories_to_remove(root: Path, freed: Amount) -> list[str]:
    try:
        mode = os.lstat(root).st_mode
    except FileNotFoundError:
        return []
    if stat.S_ISDIR(mode):
        return [os.fspath(root)]
    _remove_file(os.fspath(root), freed)
    return []


def _list_writable(directory: str) -> list[os.DirEntry[str]]:
    try:
        status = os.stat(directory)
        if status.st_mode & stat.S_IRWXU != stat.S_IRWXU:
            os.chmod(directory, stat.S_IRWXU)
        with os.scandir(directory) as entries:
            return list(entries)
    except NotADirectoryError:
        return []


def _remove_file(path: str, freed: Amount) -> None:
    status = os.lstat(path)
    os.unlink(path)
    freed.files += 1
    if status.st_nlink == 1:
        freed.bytes += status.st_size
