"""The packed files of single packages, which archives are joined from, kept for the next archive.

A fragment is one file: compressed members of a tar archive, then a description of them in JSON,
then the length of that in eight bytes. It appears whole, by rename. Nobody waits until it is
durable: its checksum tells, when it is used, whether a power cut has damaged it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from isal.isal_zlib import crc32

from condastore.engine.pack.compression import Codec

# Raise it with each change to what this program writes.
_FORMAT = 2
_LENGTH_BYTES = 8
# What of conda_pack decides how a file is packed.
_RULES = ("core.py", "prefixes.py")
Record = tuple[str, str, str]
"""A file that `conda-unpack` changes: its path, the prefix in it, and `text` or `binary`."""
ANY = -1
"""The size of a text, and the time of a program, that have the prefix in them: they differ."""


@dataclass
class Listing:
    """The files of a package, as the store has them, by their paths in a prefix.

    The first four lists run in parallel. `links` tells where symbolic links lead.
    """

    device: int = 0
    bytes: int = 0
    targets: list[str] = field(default_factory=list)
    inodes: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    mtimes: list[int] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    directories: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Fragment:
    """What is known of one that exists."""

    path: Path
    bytes: int
    crc: int
    records: list[Record]
    listing: Listing
    installed: dict[str, Any] | None


class Fragments:
    """A directory of fragments, made with one codec."""

    def __init__(self, directory: Path, codec: Codec) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._codec = codec

    def key(self, root: str, site_packages: str | None, omitted: Iterable[str]) -> str:
        """Names all that the bytes depend on: program, package, its files, and their paths.

        A package in the store never changes, so the inode and time of its directory stand for
        the modes and times of its files.
        """
        status = os.stat(root)
        entry = (os.path.basename(root), status.st_ino, status.st_mtime_ns)
        return self._digest("files", entry, site_packages, sorted(omitted))

    def key_of_metadata(self, path: str, data: bytes, mode: int) -> str:
        """Names all that the bytes of an installed package's metadata depend on."""
        return self._digest("metadata", path, hashlib.sha256(data).hexdigest(), mode)

    def load(self, key: str) -> Fragment | None:
        """Returns a fragment and notes its use, or nothing if it is not there or damaged."""
        path = self._directory / key
        try:
            with path.open("rb") as file:
                end = file.seek(-_LENGTH_BYTES, os.SEEK_END)
                length = int.from_bytes(file.read(), "little")
                file.seek(end - length)
                about = json.loads(file.read(length))
            os.utime(path)
            return Fragment(
                path,
                end - length,
                about["crc"],
                [(target, placeholder, mode) for target, placeholder, mode in about["records"]],
                _listing(about["listing"]),
                about["installed"],
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _digest(self, *parts: Any) -> str:
        return hashlib.sha256(json.dumps((self._program, *parts)).encode()).hexdigest()

    @cached_property
    def _program(self) -> tuple[int, str, str]:
        # conda_pack is read and not imported, which would take longer than all else up to here.
        found = find_spec("conda_pack")
        assert found is not None
        assert found.origin is not None
        rules = hashlib.sha256()
        for name in _RULES:
            rules.update(Path(found.origin).with_name(name).read_bytes())
        return _FORMAT, rules.hexdigest(), self._codec.key

    def path(self, key: str) -> Path:
        """Where a fragment belongs."""
        return self._directory / key

    def trim(self, most_bytes: int) -> None:
        """Removes the fragments that were not used for longest, until the rest is small enough."""
        found = []
        for entry in os.scandir(self._directory):
            status = entry.stat(follow_symlinks=False)
            found.append((status.st_mtime_ns, status.st_size, entry.path))
        excess = sum(size for _, size, _ in found) - most_bytes
        for _, size, path in sorted(found):
            if excess <= 0:
                break
            Path(path).unlink(missing_ok=True)
            excess -= size


def joined(names: Iterable[str]) -> str:
    """Returns names of files as one string, which is read in a fraction of a list's time."""
    return "\0".join(names)


def separated(names: str) -> list[str]:
    """Returns what was joined."""
    return names.split("\0") if names else []


def _listing(about: dict[str, Any]) -> Listing:
    return Listing(**{**about, "targets": separated(about["targets"])})


class NewFragment:
    """A fragment while it is written, beside its place."""

    def __init__(self, path: Path, scratch: Path) -> None:
        self._path = path
        self._beside = scratch / path.name
        self._file = self._beside.open("wb")
        self._bytes = 0
        self._crc = 0

    def write(self, data: bytes) -> None:
        """Adds compressed members."""
        self._file.write(data)
        self._bytes += len(data)
        self._crc = crc32(data, self._crc)

    def publish(
        self, listing: Listing, records: Sequence[Record], installed: dict[str, Any] | None
    ) -> Fragment:
        """Completes it and moves it to its place."""
        about = {
            "crc": self._crc,
            "records": records,
            "listing": {**vars(listing), "targets": joined(listing.targets)},
            "installed": installed,
        }
        description = json.dumps(about).encode()
        with self._file:
            self._file.write(description + len(description).to_bytes(_LENGTH_BYTES, "little"))
        self._beside.rename(self._path)
        return Fragment(self._path, self._bytes, self._crc, list(records), listing, installed)
