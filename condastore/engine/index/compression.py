"""Files of a channel, unpacked a piece at a time."""

import bz2
import ctypes
import ctypes.util
import gzip
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

PIECE_BYTES = 1 << 20


class Damaged(Exception):
    """A compressed file that can't be unpacked."""


def pieces(path: Path, encoding: str) -> Iterator[bytes]:
    """What is in a file; the encoding is one of ``zst``, ``bz2``, ``gzip``, or empty.

    Raises `Damaged`.
    """
    try:
        if encoding == "zst":
            with path.open("rb") as file:
                yield from _zstd_pieces(file)
            return
        with _opened(path, encoding) as unpacked:
            while piece := unpacked.read(PIECE_BYTES):
                yield piece
    except (EOFError, zlib.error, ValueError) as error:
        raise Damaged(str(error)) from None
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged(str(error)) from None


def _opened(path: Path, encoding: str) -> Any:
    if encoding == "gzip":
        return gzip.open(path)
    return bz2.open(path) if encoding == "bz2" else path.open("rb")


class _Buffer(ctypes.Structure):
    """ZSTD_inBuffer and ZSTD_outBuffer, which look alike."""

    _fields_ = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_size_t),
        ("position", ctypes.c_size_t),
    ]


def _zstd_library() -> ctypes.CDLL | None:
    """The system's library: Python has it only from 3.14 on."""
    name = ctypes.util.find_library("zstd") if sys.platform == "darwin" else "libzstd.so.1"
    try:
        library = ctypes.CDLL(name) if name else None
    except OSError:
        return None
    if library is None:
        return None
    stream, buffer = ctypes.c_void_p, ctypes.POINTER(_Buffer)
    library.ZSTD_createDStream.restype = stream
    library.ZSTD_freeDStream.argtypes = [stream]
    library.ZSTD_decompressStream.argtypes = [stream, buffer, buffer]
    library.ZSTD_decompressStream.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library


if sys.version_info >= (3, 14):
    from compression import zstd

    READS_ZSTD = True

    def _zstd_pieces(file: BinaryIO) -> Iterator[bytes]:
        try:
            with zstd.open(file) as unpacked:
                while piece := unpacked.read(PIECE_BYTES):
                    yield piece
        except zstd.ZstdError as error:
            raise Damaged(str(error)) from None

else:
    _zstd = _zstd_library()
    READS_ZSTD = _zstd is not None

    def _zstd_pieces(file: BinaryIO) -> Iterator[bytes]:
        assert _zstd is not None
        stream = _zstd.ZSTD_createDStream()
        room = ctypes.create_string_buffer(PIECE_BYTES)
        left = 1
        try:
            while packed := file.read(PIECE_BYTES):
                data = ctypes.cast(ctypes.c_char_p(packed), ctypes.c_void_p)
                source = _Buffer(data, len(packed), 0)
                is_full = False
                while source.position < source.size or is_full:
                    target = _Buffer(ctypes.cast(room, ctypes.c_void_p), PIECE_BYTES, 0)
                    left = _zstd.ZSTD_decompressStream(stream, target, source)
                    if _zstd.ZSTD_isError(left):
                        raise Damaged(_zstd.ZSTD_getErrorName(left).decode())
                    is_full = target.position == target.size
                    yield ctypes.string_at(room, target.position)
            if left:
                raise Damaged("it ends too early")
        finally:
            _zstd.ZSTD_freeDStream(stream)
