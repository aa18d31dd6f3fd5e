"""Writes layers: one pass over the content makes the tar, its hash, the blob and its hash."""

import hashlib
import os
import stat
import struct
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from condastore.engine.events import EngineError
from condastore.engine.image.codecs import compressor, media_type
from condastore.engine.image.entries import Entry, directory, parents

_PIECE_BYTES = 1 << 18
_BLOCK = tarfile.BLOCKSIZE
# Name, mode, owner, group, size, time, sum, type, target and magic, as POSIX names them for ustar.
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s")
_NAME_BYTES = 100
_MOST_PLAIN = 1 << 33
_TYPES = {"file": tarfile.REGTYPE, "link": tarfile.SYMTYPE, "directory": tarfile.DIRTYPE}


@dataclass(frozen=True)
class Blob:
    """A finished layer; the file is called after its digest."""

    diff_id: str
    digest: str
    size: int
    media_type: str


def write_layer(entries: Iterable[Entry], codec: str, level: int, directory: Path) -> Blob:
    """Writes the layer of some entries, which have no path twice, into a directory."""
    with LayerStream(codec, level, directory) as stream:
        _write_tar(sorted_entries(entries), stream)
        return stream.finish()


class LayerStream:
    """A file that takes a tar and holds it compressed."""

    def __init__(self, codec: str, level: int, directory: Path) -> None:
        descriptor, self._path = tempfile.mkstemp(prefix=".layer-", dir=directory)
        self._file = open(descriptor, "wb", buffering=0)  # noqa: SIM115 - closed by __exit__
        self._compressor = compressor(codec, level)
        self._media_type = media_type(codec)
        self._tar = hashlib.sha256()
        self._blob = hashlib.sha256()
        self._pending = bytearray()
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        Path(self._path).unlink(missing_ok=True)

    def write(self, data: bytes | memoryview) -> None:
        """Takes the next bytes of the tar."""
        self._pending += data
        if len(self._pending) >= _PIECE_BYTES:
            self._pass_on()

    def finish(self) -> Blob:
        """Gives the file its name."""
        self._pass_on()
        self._store(self._compressor.flush())
        digest = self._blob.hexdigest()
        os.fchmod(self._file.fileno(), 0o644)
        os.rename(self._path, os.path.join(os.path.dirname(self._path), digest))
        diff_id = f"sha256:{self._tar.hexdigest()}"
        return Blob(diff_id, f"sha256:{digest}", self._size, self._media_type)

    def _pass_on(self) -> None:
        data = bytes(self._pending)
        self._pending.clear()
        self._tar.update(data)
        self._store(self._compressor.compress(data))

    def _store(self, data: bytes) -> None:
        self._blob.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]


def sorted_entries(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order of their tar, with the directories above them."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.path in found and (entry.kind, found[entry.path].kind) != ("directory",) * 2:
            raise EngineError("package", f"A layer would hold {entry.path!r} twice.")
        found[entry.path] = entry
    seen: set[str] = set()
    for path in list(found):
        for parent in parents(path):
            if parent in seen:
                break
            seen.add(parent)
            above = found.setdefault(parent, directory(parent))
            if above.kind != "directory":
                raise EngineError("package", f"{path!r} is below {parent!r}, which is a file.")
    # By components, so that a directory is followed by all that is in it.
    return [found[path] for path in sorted(found, key=lambda path: path.split("/"))]


def _write_tar(entries: Iterable[Entry], stream: LayerStream) -> None:
    first: dict[tuple[int, int], str] = {}
    for entry in entries:
        if entry.kind == "file" and entry.data is None:
            _write_from_store(entry, stream, first)
        else:
            data = entry.data or b""
            stream.write(_header(entry, len(data)))
            stream.write(data)
            stream.write(_padding(len(data)))
    stream.write(bytes(2 * _BLOCK))


def _write_from_store(entry: Entry, stream: LayerStream, first: dict[tuple[int, int], str]) -> None:
    assert entry.source is not None
    descriptor = os.open(entry.source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise EngineError("package", f"{entry.path!r} is a special file.")
        # Two names of one file in a package are two names of one file in the layer.
        original = first.setdefault((status.st_dev, status.st_ino), entry.path)
        if original != entry.path:
            stream.write(_header(entry, 0, original))
            return
        stream.write(_header(entry, status.st_size))
        left = status.st_size
        while left:
            data = os.read(descriptor, min(left, _PIECE_BYTES))
            if not data:
                raise EngineError("disk", f"{entry.source} became shorter while it was read.")
            left -= len(data)
            stream.write(data)
        stream.write(_padding(status.st_size))
    finally:
        os.close(descriptor)


def _header(entry: Entry, size: int, hard_link: str | None = None) -> bytes:
    kind = tarfile.LNKTYPE if hard_link else _TYPES[entry.kind]
    target = hard_link or entry.target
    if _is_plain(entry.path, target) and size < _MOST_PLAIN and 0 <= entry.mtime < _MOST_PLAIN:
        return _plain_header(entry, kind, size, target)
    info = tarfile.TarInfo(entry.path)
    info.type = kind
    info.linkname = target
    info.mode = entry.mode
    info.mtime = entry.mtime
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _is_plain(path: str, target: str) -> bool:
    return len(path) < _NAME_BYTES and len(target) <= _NAME_BYTES and (path + target).isascii()


def _plain_header(entry: Entry, kind: bytes, size: int, target: str) -> bytes:
    """What tarfile makes of an entry whose fields fit, in a fifth of the time."""
    name = f"{entry.path}/" if entry.kind == "directory" else entry.path
    header = bytearray(_BLOCK)
    _FIELDS.pack_into(
        header,
        0,
        name.encode(),
        b"%07o" % entry.mode,
        b"0000000",
        b"0000000",
        b"%011o" % size,
        b"%011o" % entry.mtime,
        b" " * 8,
        kind,
        target.encode(),
        tarfile.POSIX_MAGIC,
    )
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
