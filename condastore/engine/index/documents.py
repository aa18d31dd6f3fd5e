"""JSON of any length, an entry at a time: a channel's documents don't fit into memory."""

import codecs
import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

_LOW_CHARACTERS = 1 << 16
# One entry: the longest of known channels is far below a hundredth of this.
_ENTRY_CHARACTERS = 4 << 20
_SPACE = re.compile(r"[ \t\n\r]*")
_COLON = re.compile(r"[ \t\n\r]*:[ \t\n\r]*")
_NEXT = re.compile(r"[ \t\n\r]*([,}])[ \t\n\r]*")
_MARK = re.compile(r'["\[\]{}]')
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SCALAR = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[^ \t\n\r,}"\[\]{]+', re.DOTALL)


class Broken(Exception):
    """A document that is not what it should be; the text continues "it"."""


def entries(pieces: Iterable[bytes], sections: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The keys and values of the objects that the document has under the names in `sections`.

    Raises `Broken`: then what came before is worth nothing either.
    """
    return _Document(pieces).entries(sections)


class _Document:
    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._decode_bytes = codecs.getincrementaldecoder("utf-8")().decode
        self._decode = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._is_whole = False

    def entries(self, sections: Collection[str]) -> Iterator[tuple[str, Any]]:
        found = False
        for name in self._keys():
            if name in sections and self._text.startswith("{", self._at):
                found = True
                for key in self._keys():
                    yield key, self._value()
            else:
                self._skip()
        if not found:
            raise Broken(f"has no {' and no '.join(sorted(sections))} in it")

    def _keys(self) -> Iterator[str]:
        """The keys of the object that begins here; their values are for the caller to take."""
        self._look()
        self._expect("{")
        self._at = _end(_SPACE.match(self._text, self._at))
        if self._text.startswith("}", self._at):
            self._at += 1
            return
        while True:
            key = self._value()
            if not isinstance(key, str):
                raise Broken("is not valid JSON")
            self._look()
            self._at = _end(_COLON.match(self._text, self._at))
            yield key
            self._look()
            after = _NEXT.match(self._text, self._at)
            self._at = _end(after)
            if after is not None and after[1] == "}":
                return

    def _value(self) -> Any:
        self._look()
        while True:
            try:
                value, self._at = self._decode(self._text, self._at)
                return value
            except RecursionError:
                raise Broken("is nested too deeply") from None
            except ValueError:
                self._read_or_fail()

    def _skip(self) -> None:
        """Passes over a value, whatever its length and depth."""
        self._look()
        if self._text[self._at : self._at + 1] not in ("{", "["):
            while (scalar := _SCALAR.match(self._text, self._at)) is None:
                self._read_or_fail()
            self._at = scalar.end()
            return
        depth = 0
        while True:
            self._look()
            mark = _MARK.search(self._text, self._at)
            if mark is None:
                self._at = len(self._text)
                self._read_or_fail()
            elif mark[0] == '"':
                self._at = mark.start()
                while (string := _STRING.match(self._text, self._at)) is None:
                    self._read_or_fail()
                self._at = string.end()
            else:
                self._at = mark.end()
                depth += 1 if mark[0] in "{[" else -1
                if depth == 0:
                    return

    def _expect(self, mark: str) -> None:
        self._at = _end(_SPACE.match(self._text, self._at))
        if not self._text.startswith(mark, self._at):
            raise Broken("is not a JSON object")
        self._at += 1

    def _look(self) -> None:
        """Makes sure that the next token is there."""
        while len(self._text) - self._at < _LOW_CHARACTERS and not self._is_whole:
            self._read()

    def _read_or_fail(self) -> None:
        if self._is_whole:
            raise Broken("is not valid JSON, or ends too early")
        if len(self._text) - self._at > _ENTRY_CHARACTERS:
            raise Broken(f"is not valid JSON, or has an entry beyond {_ENTRY_CHARACTERS} bytes")
        self._read()

    def _read(self) -> None:
        piece = next(self._pieces, None)
        self._is_whole = piece is None
        try:
            more = self._decode_bytes(piece or b"", self._is_whole)
        except UnicodeDecodeError:
            raise Broken("is not UTF-8") from None
        self._text = self._text[self._at :] + more
        self._at = 0


def _end(match: re.Match[str] | None) -> int:
    if match is None:
        raise Broken("is not valid JSON")
    return match.end()
