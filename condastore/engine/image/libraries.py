"""Which shared libraries a program needs, read from its ELF header."""

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO

_DYNAMIC_SEGMENT, _LOADED_SEGMENT, _INTERPRETER_SEGMENT = 2, 1, 3
_NEEDED, _STRINGS, _STRINGS_SIZE = 1, 5, 10
_MOST_STRINGS = 1 << 24


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int


def needed_libraries(path: str | os.PathLike[str]) -> list[str]:
    """The names of the libraries that a file asks for; none if it is no 64-bit ELF file."""
    try:
        with open(path, "rb") as opened:
            return _needed(opened)
    except (OSError, struct.error, ValueError):
        return []


def interpreter(path: str | os.PathLike[str]) -> str | None:
    """The program that starts a program, if that is no static one."""
    with open(path, "rb") as opened:
        for segment in _segments(opened)[1]:
            if segment.kind == _INTERPRETER_SEGMENT:
                opened.seek(segment.offset)
                return opened.read(segment.size).rstrip(b"\0").decode()
    return None


def _needed(opened: BinaryIO) -> list[str]:
    order, segments = _segments(opened)
    dynamic = next((s for s in segments if s.kind == _DYNAMIC_SEGMENT), None)
    if dynamic is None:
        return []
    opened.seek(dynamic.offset)
    data = opened.read(dynamic.size)
    entries = list(struct.iter_unpack(f"{order}QQ", data[: len(data) // 16 * 16]))
    values = dict(entries)
    names = [value for tag, value in entries if tag == _NEEDED]
    if not names:
        return []
    opened.seek(_offset(values[_STRINGS], segments))
    strings = opened.read(min(values[_STRINGS_SIZE], _MOST_STRINGS))
    return [strings[name : strings.index(b"\0", name)].decode() for name in names]


def _segments(opened: BinaryIO) -> tuple[str, list[_Segment]]:
    header = opened.read(64)
    if header[:5] != b"\x7fELF\x02":
        return "<", []
    order = "<" if header[5] == 1 else ">"
    (start,) = struct.unpack_from(f"{order}Q", header, 32)
    size, count = struct.unpack_from(f"{order}HH", header, 54)
    opened.seek(start)
    table = opened.read(size * count)
    segments = []
    for number in range(count):
        kind, _, offset, address, _, file_size = struct.unpack_from(
            f"{order}IIQQQQ", table, number * size
        )
        segments.append(_Segment(kind, offset, address, file_size))
    return order, segments


def _offset(address: int, segments: Iterable[_Segment]) -> int:
    for segment in segments:
        begins = segment.address
        if segment.kind == _LOADED_SEGMENT and begins <= address < begins + segment.size:
            return segment.offset + address - begins
    raise ValueError("the dynamic section points nowhere")
