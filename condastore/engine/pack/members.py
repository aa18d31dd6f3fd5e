"""Files as members of a tar stream. What they hold, and how they are relocated, conda_pack says.

Owners are left out: whoever unpacks an archive owns what is in it.
"""

import errno
import os
import stat
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from condastore.engine.events import EngineError
from condastore.engine.pack import interpreters
from condastore.engine.pack.fragments import Record
from condastore.engine.pack.parts import File

_UNPACK = "bin/conda-unpack"
# For where conda-pack's own text has read its arguments and replaced the prefixes. The text is
# quoted because a Python 2 would not understand it.
_UNPACK_END = """

if __name__ == "__main__" and not args.version and sys.version_info >= (3, 6):
    exec({text!r})
    name_interpreters(os.path.dirname(os.path.abspath(__file__)))
"""
_READ_BYTES = 1 << 20
_END = bytes(2 * tarfile.BLOCKSIZE)
# What a header of an ordinary file has after its checksum: its kind, no link, and no owner.
_REST = (b"0" + bytes(100) + b"ustar\x0000" + bytes(64)).ljust(356, b"\0")
_SUM_OF_THE_REST = sum(_REST) + sum(b" " * 8)
_PLAIN_BYTES = 8**11


@dataclass(frozen=True)
class _Member:
    source: str
    target: str
    data: bytes | None = None


class Members:
    """What conda_pack calls an archive."""

    def __init__(self, prefix: str, write: Callable[[bytes], None]) -> None:
        # Imported here because that takes long, and other work can be done meanwhile.
        from conda_pack.core import Packer

        self._write = write
        self._packer = Packer(prefix, self)
        self._pending: _Member | None = None
        self._stamp: int | None = None

    @property
    def records(self) -> list[Record]:
        """The files so far that `conda-unpack` has to change."""
        records: list[Record] = self._packer.prefixes
        return records

    def put(self, file: File, stamp: int | None = None) -> None:
        """Adds one file as conda-pack would, but writable for its owner if that is necessary.

        `stamp` is its modification time, if that shall be another than it is.

        Files of the package store are read-only, and `conda-unpack` writes in place.
        """
        count = len(self.records)
        try:
            self._packer.add(file)
            assert self._pending is not None
            self._put(self._pending, stamp, writable=len(self.records) > count)
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError("package", f"{file.source} can't be packed: {error}") from None

    def finish(self, records: Sequence[Record], stamp: int) -> None:
        """Adds conda-pack's scripts, with one modification time for all, and ends the stream.

        `records` are all that `conda-unpack` shall change.
        """
        self._packer.prefixes = sorted(records)
        self._stamp = stamp
        try:
            self._packer.finish()
        except UnicodeEncodeError as error:
            raise EngineError("package", f"A file's name is not UTF-8: {error.object!r}") from None
        self._write(_END)

    def add(self, source: str, target: str) -> None:
        """For conda_pack: this file, as it is."""
        self._pending = _Member(source, target)
        if self._stamp is not None:
            if target == _UNPACK:
                end = _UNPACK_END.format(text=Path(interpreters.__file__).read_text("utf-8"))
                self._pending = _Member(source, target, Path(source).read_bytes() + end.encode())
            self._put(self._pending, self._stamp)

    def add_bytes(self, source: str, data: bytes, target: str) -> None:
        """For conda_pack: like this file, but with another content."""
        self._pending = _Member(source, target, data)

    def _put(self, member: _Member, stamp: int | None, *, writable: bool = False) -> None:
        status = os.lstat(member.source)
        info = tarfile.TarInfo(member.target)
        info.mode = stat.S_IMODE(status.st_mode) | (stat.S_IWUSR if writable else 0)
        info.mtime = int(status.st_mtime) if stamp is None else stamp
        if stat.S_ISREG(status.st_mode):
            self._put_file(info, member, status)
        elif stat.S_ISLNK(status.st_mode):
            info.type = tarfile.SYMTYPE
            info.linkname = os.readlink(member.source)
            self._write(_header(info))
        elif stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
            self._write(_header(info))
        else:
            raise EngineError("package", f"{member.source} became a special file.")

    def _put_file(self, info: tarfile.TarInfo, member: _Member, status: os.stat_result) -> None:
        info.size = status.st_size if member.data is None else len(member.data)
        self._write(_header(info))
        if member.data is None:
            self._copy(member.source, status)
        else:
            for start in range(0, len(member.data), _READ_BYTES):
                self._write(member.data[start : start + _READ_BYTES])
        self._write(bytes(-info.size % tarfile.BLOCKSIZE))

    def _copy(self, source: str, expected: os.stat_result) -> None:
        try:
            # Neither a link that took the file's place is followed, nor is a pipe waited for.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(source, flags)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _changed(source) from None
            raise
        try:
            left = expected.st_size
            while left and (data := os.read(descriptor, min(left, _READ_BYTES))):
                self._write(data)
                left -= len(data)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        if left or _version(after) != _version(expected):
            raise _changed(source)


def _changed(source: str) -> EngineError:
    return EngineError("package", f"{source} changed while it was packed.")


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _header(info: tarfile.TarInfo) -> bytes:
    name = info.name.encode("utf-8", "surrogateescape")
    is_plain = info.type == tarfile.REGTYPE and info.size < _PLAIN_BYTES
    if not is_plain or len(name) > tarfile.LENGTH_NAME or not name.isascii():
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    # The same for nearly all files, in a tenth of the time.
    mtime = int(info.mtime)
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (info.mode, 0, 0, info.size, mtime)
    start = name.ljust(tarfile.LENGTH_NAME, b"\0") + numbers
    checksum = sum(start) + _SUM_OF_THE_REST
    return b"%b%06o\0 %b" % (start, checksum, _REST)
