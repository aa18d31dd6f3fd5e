"""What a layer is made of: files, links and directories, with all that its tar will say of them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

# 1980-01-01, the earliest time that a zip file can hold: users may zip what they find in an image.
EPOCH = 315_532_800

Kind = Literal["file", "link", "directory"]


@dataclass(frozen=True)
class Entry:
    """One member of a layer; a file's content is `data`, or else that of `source`."""

    path: str
    """Below the image's root, without a slash at its beginning."""
    kind: Kind
    mode: int
    mtime: int = EPOCH
    source: str | None = None
    data: bytes | memoryview | None = None
    target: str = ""
    """What a symbolic link says."""

    def moved(self, path: str) -> "Entry":
        """The same under another path."""
        return replace(self, path=path)


def parents(path: str) -> Iterator[str]:
    """The directories above a path, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def file(path: str, data: bytes, mode: int = 0o644) -> Entry:
    """A file that is made here."""
    return Entry(path, "file", mode, data=data)


def directory(path: str, mode: int = 0o755) -> Entry:
    """A directory; it is the same in every layer."""
    return Entry(path, "directory", mode)


def link(path: str, target: str) -> Entry:
    """A symbolic link."""
    return Entry(path, "link", 0o777, target=target)


def text(path: str, content: str, mode: int = 0o644) -> Entry:
    """A text file that is made here."""
    return file(path, content.encode(), mode)
