"""A conda package in memory, and the two formats in which it is written."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import zstandard

#: Stands in every relocatable file where the prefix belongs; as long as conda-build makes it.
PLACEHOLDER = ("/opt/localchannel" + "_placehold" * 24)[:255]

#: The modification time of every file: 2024-01-01, so that the same input gives the same bytes.
MTIME = 1_704_067_200

_ZIP_DATE = (2024, 1, 1, 0, 0, 0)
# Packages are written once and read often, but on two cores: 19, as conda uses, takes minutes.
_ZSTD_LEVEL = 5


@dataclass(frozen=True)
class File:
    """A regular file of a package; ``relocatable`` if it is text that holds PLACEHOLDER."""

    path: str
    content: bytes
    executable: bool = False
    relocatable: bool = False


@dataclass(frozen=True)
class Symlink:
    """A symbolic link of a package, to a path relative to its own directory."""

    path: str
    target: str


Member = File | Symlink
NoArch = Literal["python", "generic"]
Format = Literal[".conda", ".tar.bz2"]


@dataclass
class Package:
    """What a package is: its identity, its relations, and its files below the prefix."""

    name: str
    version: str
    build: str
    subdir: str
    members: list[Member]
    depends: list[str] = field(default_factory=list)
    constrains: list[str] = field(default_factory=list)
    build_number: int = 0
    noarch: NoArch | None = None
    entry_points: list[str] = field(default_factory=list)
    license: str = ""
    timestamp: int = MTIME
    about: dict[str, str] = field(default_factory=dict)
    licenses: dict[str, bytes] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return f"{self.name}-{self.version}-{self.build}"

    def index_json(self) -> dict[str, Any]:
        """Return ``info/index.json``, which the solver later sees as a record."""
        platform, _, machine = self.subdir.partition("-")
        index: dict[str, Any] = {
            "arch": None if self.noarch else {"64": "x86_64"}.get(machine, machine),
            "build": self.build,
            "build_number": self.build_number,
            "constrains": self.constrains,
            "depends": self.depends,
            "license": self.license,
            "name": self.name,
            "platform": None if self.noarch else platform,
            "subdir": self.subdir,
            "timestamp": self.timestamp * 1000,
            "version": self.version,
        }
        if self.noarch:
            index["noarch"] = self.noarch
        return index

    def write(self, channel: Path, extension: Format = ".conda") -> Record:
        """Write the package into its subdir of a channel and return its record."""
        path = channel / self.subdir / (self.stem + extension)
        payload = sorted(self.members, key=lambda member: member.path)
        write = write_conda if extension == ".conda" else write_tar_bz2
        write(path, _tar(payload), _tar(self._info(payload)))
        return Record.of_file(path, self.index_json(), self.about)

    def _info(self, payload: Sequence[Member]) -> list[Member]:
        about = {**self.about, "license": self.license}
        info = {
            "about.json": _json(about),
            "files": "".join(f"{member.path}\n" for member in payload).encode(),
            "index.json": _json(self.index_json()),
            "paths.json": _json(paths_json(payload)),
        }
        if self.noarch:
            info["link.json"] = _json(self._link_json())
        for name, text in self.licenses.items():
            info[f"licenses/{name}"] = text
        return [File(f"info/{name}", info[name]) for name in sorted(info)]

    def _link_json(self) -> dict[str, Any]:
        noarch: dict[str, Any] = {"type": self.noarch}
        if self.entry_points:
            noarch["entry_points"] = self.entry_points
        return {"noarch": noarch, "package_metadata_version": 1}


@dataclass(frozen=True)
class Record:
    """A package as the channel's index knows it."""

    filename: str
    repodata: dict[str, Any]
    about: Mapping[str, str]

    @property
    def subdir(self) -> str:
        """The subdir that the file lies in."""
        return str(self.repodata["subdir"])

    @classmethod
    def of_file(cls, path: Path, index: Mapping[str, Any], about: Mapping[str, str]) -> Record:
        """Make the record of a written package, with its true size and hashes."""
        content = path.read_bytes()
        repodata = {
            **index,
            "md5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }
        return cls(path.name, repodata, about)


def paths_json(payload: Iterable[Member]) -> dict[str, Any]:
    """Return ``info/paths.json``: every path with its type, hash and size."""
    members = list(payload)
    contents = {member.path: member.content for member in members if isinstance(member, File)}
    return {"paths": [_path_entry(member, contents) for member in members], "paths_version": 1}


def _path_entry(member: Member, contents: Mapping[str, bytes]) -> dict[str, Any]:
    if isinstance(member, Symlink):
        # As conda-build does: a link is described by what it leads to.
        directory = member.path.rpartition("/")[0]
        content = contents.get(f"{directory}/{member.target}", b"")
    else:
        content = member.content
    entry: dict[str, Any] = {
        "_path": member.path,
        "path_type": "softlink" if isinstance(member, Symlink) else "hardlink",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_in_bytes": len(content),
    }
    if isinstance(member, File) and member.relocatable:
        entry |= {"file_mode": "text", "prefix_placeholder": PLACEHOLDER}
    return entry


def write_conda(path: Path, payload: bytes, info: bytes) -> None:
    """Write a ``.conda`` file from two tar archives."""
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    zip_conda(path, compressor.compress(payload), compressor.compress(info))


def zip_conda(path: Path, payload: bytes, info: bytes) -> None:
    """Write a ``.conda`` file, a plain zip, from two tar archives already compressed."""
    stem = path.name.removesuffix(".conda")
    parts = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{stem}.tar.zst": payload,
        f"info-{stem}.tar.zst": info,
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _ZIP_DATE), content)


def write_tar_bz2(path: Path, payload: bytes, info: bytes) -> None:
    """Write a ``.tar.bz2`` file: one archive, metadata first."""
    with tarfile.open(path, "w:bz2") as archive:
        for part in (info, payload):
            with tarfile.open(fileobj=io.BytesIO(part)) as members:
                for member in members:
                    archive.addfile(member, members.extractfile(member) if member.size else None)


def _tar(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for member in members:
            header = tarfile.TarInfo(member.path)
            header.mtime = MTIME
            if isinstance(member, Symlink):
                header.type = tarfile.SYMTYPE
                header.linkname = member.target
                header.mode = 0o777
                archive.addfile(header)
            else:
                header.mode = 0o755 if member.executable else 0o644
                header.size = len(member.content)
                archive.addfile(header, io.BytesIO(member.content))
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, sort_keys=True).encode() + b"\n"
