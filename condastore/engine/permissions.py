"""The permissions phase: who may read a prefix, and how large it is, found in one walk."""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from condastore.engine.events import EngineError
from condastore.engine.validate import is_inside

_DEFAULT_MODE = 0o755


@dataclass
class Size:
    """What a prefix takes: all of it, and the part that no other prefix shares."""

    bytes: int = 0
    own_bytes: int = 0
    files: int = 0
    _seen: set[int] = field(default_factory=set)

    def add(self, status: os.stat_result) -> None:
        """Counts one file; further links to it add nothing to the bytes."""
        self.files += 1
        if status.st_nlink == 1:
            self.own_bytes += status.st_size
        elif status.st_ino in self._seen:
            return
        else:
            self._seen.add(status.st_ino)
        self.bytes += status.st_size


def settle(prefix: Path, permissions: str | None, uid: int | None, gid: int | None) -> Size:
    """Gives directories and files of the prefix's own their mode and owner; measures everything.

    A file with more than one link belongs to the package store and to other prefixes as well, and
    is not touched.
    """
    mode = int(permissions, 8) if permissions else _DEFAULT_MODE
    owner = (-1 if uid is None else uid, -1 if gid is None else gid)
    size = Size()
    directories = [os.fspath(prefix)]
    for directory in directories:
        _set(directory, os.lstat(directory), mode | stat.S_IRWXU, owner)
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    directories.append(entry.path)
                    continue
                status = entry.stat(follow_symlinks=False)
                size.add(status)
                if stat.S_ISLNK(status.st_mode):
                    _check_link(prefix, entry.path)
                elif status.st_nlink == 1:
                    _set(entry.path, status, _file_mode(status.st_mode, mode), owner)
    return size


def _file_mode(current: int, mode: int) -> int:
    executable = current & (stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return (mode if executable else mode & 0o666) | stat.S_IRUSR | stat.S_IWUSR


def _set(path: str, status: os.stat_result, mode: int, owner: tuple[int, int]) -> None:
    uid, gid = owner
    if uid not in (-1, status.st_uid) or gid not in (-1, status.st_gid):
        os.chown(path, uid, gid)
    if stat.S_IMODE(status.st_mode) != mode:
        os.chmod(path, mode)


def _check_link(prefix: Path, path: str) -> None:
    # Each package's links were checked alone; two packages together can still lead one outside.
    if not is_inside(prefix, Path(path)):
        target = os.readlink(path)
        raise EngineError("package", f"{path} is a link to {target!r}, outside of the environment.")
