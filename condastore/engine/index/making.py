"""Makes the file of the package index anew, beside itself.

Names, versions and channels are numbered in their order (that of versions is conda's), so whoever
reads sorts by numbers. Numbers change with every making of the file and are no ids.
"""

import json
import os
import sqlite3
from collections.abc import Collection
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from condastore.engine.index.file import FORMAT, Documents, Index
from condastore.engine.index.records import Staging, Versions

_SCHEMA = f"""
PRAGMA user_version = {FORMAT};
CREATE TABLE channel (
    id INTEGER PRIMARY KEY, url TEXT NOT NULL, records INTEGER NOT NULL, documents TEXT NOT NULL
);
CREATE TABLE name (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE version (id INTEGER PRIMARY KEY, version TEXT NOT NULL);
CREATE TABLE license (id INTEGER PRIMARY KEY, license TEXT NOT NULL);
CREATE TABLE package (
    channel INTEGER, name INTEGER, version INTEGER, license INTEGER, builds TEXT NOT NULL,
    PRIMARY KEY (channel, name, version)
) WITHOUT ROWID;
CREATE TABLE listing (
    channel INTEGER, name INTEGER, versions INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL, summary TEXT,
    PRIMARY KEY (channel, name)
) WITHOUT ROWID;
"""
_INDEX = "CREATE INDEX listing_by_name ON listing (name, channel, versions, first, last)"
_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "cache_size=-32768")


@dataclass(frozen=True)
class Fresh:
    """What a channel offers now, and the documents that say so."""

    url: str
    staging: Staging
    documents: Documents


def make_anew(
    old: Index, kept: Collection[str], versions: Versions, fresh: Fresh | None = None
) -> None:
    """Replaces the file by one with the channels `kept` and with what is fresh."""
    path, beside = old.path, old.beside
    try:
        with closing(sqlite3.connect(beside, isolation_level=None, uri=True)) as file:
            for pragma in _PRAGMAS:
                file.execute(f"PRAGMA {pragma}")
            file.executescript(_SCHEMA)
            making = _Making(file, old, set(kept), versions, fresh)
            file.execute("BEGIN")
            making.fill()
            file.execute("COMMIT")
            file.execute(_INDEX)
        _sync(beside)
        os.rename(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    _sync(path.parent)


class _Making:
    """Fills an empty file from the old one and from what is fresh."""

    def __init__(
        self,
        file: sqlite3.Connection,
        old: Index,
        kept: set[str],
        versions: Versions,
        fresh: Fresh | None,
    ) -> None:
        self._file = file
        self._versions = versions
        self._fresh = fresh
        self._old = {
            url: channel
            for url, channel in old.channels.items()
            if url in kept and (fresh is None or url != fresh.url)
        }
        if self._old:
            file.execute("ATTACH ? AS old", (old.uri,))
        if fresh is not None:
            file.execute("ATTACH ? AS fresh", (str(fresh.staging.path),))

    def fill(self) -> None:
        """Copies the channels in the order of their URLs, so that rows are only ever appended."""
        self._number()
        urls = sorted({*self._old, *([self._fresh.url] if self._fresh else [])})
        for channel, url in enumerate(urls, start=1):
            if url in self._old:
                known = self._old[url]
                self._copy_old(channel, known.id)
                self._record(channel, url, known.records, known.documents)
            elif self._fresh is not None:
                self._copy_fresh(channel, self._fresh.staging)
                records = self._fresh.staging.records
                self._record(channel, url, records, self._fresh.documents)

    def _record(self, channel: int, url: str, records: int, documents: Documents) -> None:
        text = json.dumps({name: asdict(known) for name, known in documents.items()})
        self._file.execute("INSERT INTO channel VALUES (?, ?, ?, ?)", (channel, url, records, text))

    def _number(self) -> None:
        """Numbers names, versions and licenses; those of the sources are kept beside them."""
        old: list[dict[str, int]] = [{}, {}, {}]
        fresh: list[dict[str, int]] = [{}, {}, {}]
        if self._old:
            old = self._numbers_of_old()
        if self._fresh is not None:
            staging = self._fresh.staging
            fresh = [staging.names, staging.versions, staging.licenses]
        for text in old[1]:
            self._versions.add(text)
        ranks = self._versions.ranks()
        for number, kind in enumerate(("name", "version", "license")):
            texts = {*old[number], *fresh[number]}
            ordered = sorted(texts, key=ranks.__getitem__ if kind == "version" else None)
            numbers = {text: place for place, text in enumerate(ordered, start=1)}
            insert = self._file.executemany
            insert(
                f"INSERT INTO {kind} VALUES (?, ?)", ((place, t) for t, place in numbers.items())
            )
            for source, known in (("old", old[number]), ("fresh", fresh[number])):
                table = f"temp.{source}_{kind}"
                self._file.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, now INTEGER)")
                insert(
                    f"INSERT INTO {table} VALUES (?, ?)",
                    ((place, numbers[text]) for text, place in known.items()),
                )

    def _numbers_of_old(self) -> list[dict[str, int]]:
        """The numbers of what the channels that are copied use."""
        channels = ", ".join(str(channel.id) for channel in self._old.values())
        found = []
        for kind in ("name", "version", "license"):
            used = f"SELECT {kind} FROM old.package WHERE channel IN ({channels})"
            query = f"SELECT {kind}, id FROM old.{kind} WHERE id IN ({used})"
            found.append(dict(self._file.execute(query).fetchall()))
        return found

    def _copy_old(self, channel: int, old_channel: int) -> None:
        # The numbers are others, but their order is the same.
        self._file.execute(
            "INSERT INTO package SELECT ?, n.now, v.now, l.now, p.builds FROM old.package p "
            "CROSS JOIN temp.old_name n ON n.id = p.name "
            "CROSS JOIN temp.old_version v ON v.id = p.version "
            "LEFT JOIN temp.old_license l ON l.id = p.license "
            "WHERE p.channel = ? ORDER BY p.channel, p.name, p.version",
            (channel, old_channel),
        )
        self._file.execute(
            "INSERT INTO listing SELECT ?, n.now, l.versions, f.now, t.now, l.summary "
            "FROM old.listing l CROSS JOIN temp.old_name n ON n.id = l.name "
            "CROSS JOIN temp.old_version f ON f.id = l.first "
            "CROSS JOIN temp.old_version t ON t.id = l.last "
            "WHERE l.channel = ? ORDER BY l.channel, l.name",
            (channel, old_channel),
        )

    def _copy_fresh(self, channel: int, staging: Staging) -> None:
        self._file.execute(
            "INSERT INTO package SELECT ?, n.now, v.now, max(l.now), group_concat(r.build, ' ') "
            "FROM fresh.record r CROSS JOIN temp.fresh_name n ON n.id = r.name "
            "CROSS JOIN temp.fresh_version v ON v.id = r.version "
            "LEFT JOIN temp.fresh_license l ON l.id = r.license "
            "GROUP BY n.now, v.now",
            (channel,),
        )
        self._file.execute("CREATE TABLE temp.summary (name INTEGER PRIMARY KEY, summary TEXT)")
        self._file.executemany(
            "INSERT INTO temp.summary SELECT id, ? FROM name WHERE name = ?",
            ((summary, name) for name, summary in staging.summaries.items()),
        )
        self._file.execute(
            "INSERT INTO listing SELECT p.channel, p.name, count(*), min(p.version), "
            "max(p.version), s.summary FROM package p LEFT JOIN temp.summary s ON s.name = p.name "
            "WHERE p.channel = ? GROUP BY p.channel, p.name",
            (channel,),
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
