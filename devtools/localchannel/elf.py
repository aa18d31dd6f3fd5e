"""The little of ELF that moving a binary needs: which libraries it asks for, and where."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_MAGIC_64_LITTLE = b"\x7fELF\x02\x01"
_PROGRAM_LOAD, _PROGRAM_DYNAMIC = 1, 2
_TAG_NEEDED, _TAG_STRINGS, _TAG_RPATH, _TAG_RUNPATH = 1, 5, 15, 29


class Elf:
    """A 64-bit little-endian ELF file in memory; other files have no needs and no paths."""

    def __init__(self, content: bytes) -> None:
        self._data = bytearray(content)
        self._segments = list(self._read_segments())
        self._dynamic = list(self._read_dynamic())

    @property
    def content(self) -> bytes:
        """The file as it is now."""
        return bytes(self._data)

    @property
    def needed(self) -> list[str]:
        """The libraries that the loader must find."""
        return [self._string(value) for tag, value in self._dynamic if tag == _TAG_NEEDED]

    @property
    def search_path(self) -> str | None:
        """The ``RUNPATH`` or ``RPATH``, if there is one."""
        offset = self._search_path_offset()
        return None if offset is None else self._string_at(offset)

    def replace_search_path(self, path: str) -> bool:
        """Write another search path over the present one; False if there is no room."""
        offset, present = self._search_path_offset(), self.search_path
        if offset is None or present is None or len(path) > len(present):
            return False
        self._data[offset : offset + len(present)] = path.encode().ljust(len(present), b"\0")
        return True

    def _read_segments(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield type, file offset, address and size of each program header."""
        if not self._data.startswith(_MAGIC_64_LITTLE):
            return
        (table,) = struct.unpack_from("<Q", self._data, 32)
        size, count = struct.unpack_from("<HH", self._data, 54)
        for index in range(count):
            kind, _, offset, address, _, length = struct.unpack_from(
                "<IIQQQQ", self._data, table + index * size
            )
            yield kind, offset, address, length

    def _read_dynamic(self) -> Iterator[tuple[int, int]]:
        for kind, offset, _, length in self._segments:
            if kind == _PROGRAM_DYNAMIC:
                yield from struct.iter_unpack("<QQ", self._data[offset : offset + length])

    def _search_path_offset(self) -> int | None:
        for wanted in (_TAG_RUNPATH, _TAG_RPATH):
            for tag, value in self._dynamic:
                if tag == wanted:
                    return self._strings() + value
        return None

    def _strings(self) -> int:
        address = next(value for tag, value in self._dynamic if tag == _TAG_STRINGS)
        for kind, offset, start, length in self._segments:
            if kind == _PROGRAM_LOAD and start <= address < start + length:
                return offset + address - start
        raise ValueError("the ELF file's string table lies outside its segments")

    def _string(self, value: int) -> str:
        return self._string_at(self._strings() + value)

    def _string_at(self, offset: int) -> str:
        return self._data[offset : self._data.index(0, offset)].decode()
