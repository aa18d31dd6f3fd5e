"""Archives written just as they are said to be, however wrong that is."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import zstandard

from devtools.localchannel.package import MTIME

_MEGABYTE = 1 << 20

#: The members that ``paths.json`` lists, and what it calls them.
LISTED = {tarfile.REGTYPE: "hardlink", tarfile.SYMTYPE: "softlink", tarfile.LNKTYPE: "hardlink"}


@dataclass(frozen=True)
class RawMember:
    """A member of a tar archive, just as it is said to be."""

    path: str
    content: bytes = b"attacked"
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    target: str = ""
    #: Zeros after the content; written without ever being in memory.
    zeros: int = 0


def path_entry(member: RawMember) -> dict[str, Any]:
    """Return what an honest ``paths.json`` says of a member."""
    digest = hashlib.sha256(member.content)
    for chunk in _zeros(member.zeros):
        digest.update(chunk)
    return {
        "_path": member.path,
        "path_type": LISTED[member.kind],
        "sha256": digest.hexdigest(),
        "size_in_bytes": len(member.content) + member.zeros,
    }


def compressed_tar(members: Iterable[RawMember]) -> bytes:
    """Write a tar archive without any check, and compress it."""
    buffer = io.BytesIO()
    with zstandard.ZstdCompressor().stream_writer(buffer, closefd=False) as stream:
        for member in members:
            _write_member(stream, member)
        stream.write(bytes(2 * tarfile.BLOCKSIZE))
    return buffer.getvalue()


def _write_member(stream: zstandard.ZstdCompressionWriter, member: RawMember) -> None:
    header = tarfile.TarInfo(member.path)
    header.mode, header.type, header.linkname = member.mode, member.kind, member.target
    header.mtime = MTIME
    regular = member.kind == tarfile.REGTYPE
    if regular:
        header.size = len(member.content) + member.zeros
    # Not through TarFile, which would make the path harmless or refuse it.
    stream.write(header.tobuf(tarfile.GNU_FORMAT))
    if regular:
        stream.write(member.content)
        for chunk in _zeros(member.zeros):
            stream.write(chunk)
        stream.write(bytes(-header.size % tarfile.BLOCKSIZE))


def _zeros(count: int) -> Iterator[bytes]:
    for _ in range(count // _MEGABYTE):
        yield bytes(_MEGABYTE)
    yield bytes(count % _MEGABYTE)
