"""Files that appear whole or not at all: write beside, fsync, rename, fsync the directory."""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

COPY_BYTES = 1024 * 1024
NAME_BYTES = 255
# What other users go through, whatever the umask.
PUBLIC = 0o755
PRIVATE = 0o700
_DIGEST_CHARACTERS = 32
# What is half written is named so that nobody else's file can be taken for it.
_HALF, _WRITTEN = ".condastore-", ".new"


def fitting(name: str) -> str:
    """Returns a file name as it is, or a shorter one of its own if no file system takes it."""
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return name
    stem, suffix = os.path.splitext(name)
    ending = f"-{hashlib.sha256(encoded).hexdigest()[:_DIGEST_CHARACTERS]}{suffix}"
    return stem.encode()[: NAME_BYTES - len(ending)].decode("utf-8", "ignore") + ending


def sync_directory(directory: Path) -> None:
    """Makes the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_lock(path: Path) -> int:
    """Opens a file that is there to be locked, and that no other account can lock.

    To lock a file, or a directory, it is enough that one may read it.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    # It may have been made by a version that let everybody read it, and belong to somebody else.
    with suppress(OSError):
        os.fchmod(descriptor, 0o600)
    return descriptor


def make_directory(directory: Path, mode: int | None = None) -> None:
    """Makes a directory and those above it, durably, with a mode or that of the umask."""
    if directory.is_dir():
        return
    make_directory(directory.parent, mode)
    directory.mkdir(exist_ok=True)
    if mode is not None:
        directory.chmod(mode)
    sync_directory(directory.parent)


def write_file(path: Path, data: bytes, mode: int = 0o644, *, made_in: Path | None = None) -> None:
    """Writes a file durably, replacing what was there.

    It is made in a directory of the same file system, by default that of the file. What a crash
    leaves there is of no use.
    """
    _appear(path, mode, made_in, lambda writer: writer.write(data))


def copy_file(source: Path, path: Path, *, made_in: Path | None = None) -> None:
    """Copies a file durably, replacing what was there."""
    with source.open("rb") as reader:
        _appear(path, 0o644, made_in, lambda writer: shutil.copyfileobj(reader, writer, COPY_BYTES))


def move_file(source: Path, path: Path, *, made_in: Path | None = None) -> None:
    """Moves a finished file durably, replacing what was there; between file systems by a copy."""
    make_directory(path.parent)
    with source.open("rb") as file:
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())
    try:
        os.rename(source, path)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        copy_file(source, path, made_in=made_in)
        source.unlink()
    sync_directory(path.parent)
    sync_directory(source.parent)


def replace_symlink(link: Path, target: Path) -> None:
    """Points a symbolic link elsewhere; there is no instant without it.

    Everybody may follow it, if he may enter the directories that are there already.
    """
    make_directory(link.parent, PUBLIC)
    beside = link.parent / f".{link.name}.new"
    beside.unlink(missing_ok=True)
    os.symlink(target, beside)
    os.rename(beside, link)
    sync_directory(link.parent)


def half_written(directory: Path) -> Iterator[Path]:
    """Yields the files in a directory that were being written by processes that died."""
    return directory.glob(f"{_HALF}*{_WRITTEN}")


def _appear(
    path: Path, mode: int, made_in: Path | None, fill: Callable[[BinaryIO], object]
) -> None:
    make_directory(path.parent)
    make_directory(made_in or path.parent)
    fd, beside = tempfile.mkstemp(prefix=_HALF, suffix=_WRITTEN, dir=made_in or path.parent)
    try:
        with open(fd, "wb") as writer:
            fill(writer)
            os.fchmod(fd, mode)
            writer.flush()
            os.fsync(fd)
        os.rename(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
