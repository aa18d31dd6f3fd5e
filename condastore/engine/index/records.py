"""What a channel offers, gathered record by record into a file: memory would be too small."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rattler import Version

from condastore.engine.events import EngineError
from condastore.engine.index.compression import Damaged, pieces
from condastore.engine.index.documents import Broken, entries
from condastore.engine.index.fetch import Document
from condastore.engine.jobs import IndexLimits

SECTIONS = ("packages", "packages.conda")
SUMMARY_CHARACTERS = 1000

_NAME = re.compile(r"[A-Za-z0-9_.+-]{1,255}")
_BUILD = re.compile(r"[!-~]{1,255}")
_VERSION_CHARACTERS = 255
_LICENSE_CHARACTERS = 1000
_ROWS = 10_000
# Far beyond any channel; each of them is held in memory.
_NAMES = 1_000_000
_VERSIONS = 2_000_000
_LICENSES = 100_000


class Versions:
    """Every version that was met, as text and as what conda makes of it."""

    def __init__(self) -> None:
        self._parsed: dict[str, Version] = {}

    def add(self, text: str) -> bool:
        """Whether it is a version at all."""
        if text in self._parsed:
            return True
        try:
            self._parsed[text] = Version(text)
        except Exception:  # rattler raises a panic of Rust as one of its own
            return False
        return True

    def ranks(self) -> dict[str, int]:
        """The place of each in conda's order, from 1; equal ones are in that of their text."""
        ordered = sorted(sorted(self._parsed), key=self._parsed.__getitem__)
        return {text: rank for rank, text in enumerate(ordered, start=1)}


class Staging:
    """The records of one channel, on their way into the index."""

    def __init__(self, path: Path, versions: Versions, limits: IndexLimits) -> None:
        self.path = path
        self.names: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.licenses: dict[str, int] = {}
        self.summaries: dict[str, str] = {}
        self.records = 0
        self.left_out = 0
        self.example = ""
        self._known_versions = versions
        self._limits = limits
        self._rows: list[tuple[int, int, int | None, str]] = []
        self._file = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute("BEGIN")
        self._file.execute("CREATE TABLE record (name, version, license, build)")

    def add_repodata(self, subdir: str, document: Document) -> None:
        """Takes the records of a subdir; what is no record is left out. Raises `EngineError`."""
        what = f"{subdir}/repodata.json"
        for key, value in self._entries(document, SECTIONS, what):
            if self.records >= self._limits["records"]:
                raise EngineError("package", f"{what} has more than {self.records} records.")
            self._add(key, value, subdir)
        self._flush()

    def add_channeldata(self, document: Document) -> None:
        """Takes the summaries, as many as there are: packages without are worth more than none."""
        try:
            for key, value in self._entries(document, ("packages",), "channeldata.json"):
                summary = value.get("summary") if isinstance(value, dict) else None
                if isinstance(summary, str) and key in self.names and _is_text(summary):
                    self.summaries[key] = summary[:SUMMARY_CHARACTERS]
        except EngineError as error:
            self.example = self.example or error.text

    def close(self) -> None:
        """Makes the file complete."""
        self._flush()
        self._file.execute("COMMIT")
        self._file.close()

    def _entries(
        self, document: Document, sections: Iterable[str], what: str
    ) -> Iterator[tuple[str, Any]]:
        assert document.path is not None
        unpacked = _limited(
            pieces(document.path, document.encoding), self._limits["document_bytes"], what
        )
        try:
            yield from entries(unpacked, tuple(sections))
        except Broken as error:
            raise EngineError("package", f"{what} {error}.") from None
        except Damaged as error:
            raise EngineError("package", f"{what} can't be unpacked: {error}.") from None
        except OSError as error:
            raise EngineError("network", f"{what} could not be read: {error.strerror}.") from None

    def _add(self, key: str, record: Any, subdir: str) -> None:
        try:
            name, version, build = record["name"], record["version"], record["build"]
            license_text = record.get("license")
            if record.get("subdir", subdir) != subdir:
                raise ValueError(f"it is for {record['subdir']}")
            name_id = self.names.get(name) or self._new_name(name)
            version_id = self.versions.get(version) or self._new_version(version)
            if not _BUILD.fullmatch(build):
                raise ValueError("its build string is none")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._leave_out(key, error)
            return
        license_id = None
        if type(license_text) is str:
            license_id = self.licenses.get(license_text) or self._new_license(license_text)
        self._rows.append((name_id, version_id, license_id, build))
        self.records += 1
        if len(self._rows) == _ROWS:
            self._flush()

    def _leave_out(self, key: str, error: Exception) -> None:
        self.left_out += 1
        if not self.example:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            self.example = f"{key[:100]}: {reason}"[:300].encode(errors="replace").decode()

    def _new_name(self, name: str) -> int:
        if not _NAME.fullmatch(name):
            raise ValueError("its name is none")
        if len(self.names) >= _NAMES:
            raise EngineError("package", f"The channel has more than {_NAMES} names.")
        return self.names.setdefault(name, len(self.names) + 1)

    def _new_version(self, version: str) -> int:
        if len(version) > _VERSION_CHARACTERS or not self._known_versions.add(version):
            raise ValueError("its version is none")
        if len(self.versions) >= _VERSIONS:
            raise EngineError("package", f"The channel has more than {_VERSIONS} versions.")
        return self.versions.setdefault(version, len(self.versions) + 1)

    def _new_license(self, text: str) -> int | None:
        is_usable = len(text) <= _LICENSE_CHARACTERS and _is_text(text)
        if not is_usable or len(self.licenses) >= _LICENSES:
            return None
        return self.licenses.setdefault(text, len(self.licenses) + 1)

    def _flush(self) -> None:
        self._file.executemany("INSERT INTO record VALUES (?, ?, ?, ?)", self._rows)
        self._rows.clear()


def _limited(unpacked: Iterator[bytes], limit: int, what: str) -> Iterator[bytes]:
    size = 0
    for piece in unpacked:
        size += len(piece)
        if size > limit:
            raise EngineError("package", f"{what} is larger than the limit of {limit} bytes.")
        yield piece


def _is_text(text: str) -> bool:
    """Whether it can be stored: JSON can spell halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
