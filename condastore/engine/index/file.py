"""The file of the package index, as it is."""

import json
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from condastore.engine.index.fetch import Known

# Of the file's form; condastore/package_index.py reads it.
FORMAT = 1

Documents = dict[str, Known]


@dataclass
class Channel:
    """A channel of the file: how many records it has, and the documents that they are from."""

    id: int
    records: int
    documents: Documents


class Index:
    """The file as it is; if there is none that can be used, it has no channels."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.channels: dict[str, Channel] = {}
        with suppress(sqlite3.Error, ValueError, TypeError):
            self._read()

    @property
    def uri(self) -> str:
        """The file, to be read by SQLite and not to be written."""
        return f"{self.path.absolute().as_uri()}?mode=ro"

    @property
    def beside(self) -> Path:
        """Where the next one is made; a job that was killed may have left it."""
        return self.path.with_name(f".{self.path.name}.new")

    def summaries(self, url: str) -> dict[str, str]:
        """The summaries of a channel's packages by their names."""
        if url not in self.channels:
            return {}
        query = (
            "SELECT name.name, summary FROM listing JOIN name ON name.id = listing.name "
            "WHERE channel = ? AND summary IS NOT NULL"
        )
        with closing(sqlite3.connect(self.uri, uri=True)) as file:
            return dict(file.execute(query, (self.channels[url].id,)))

    def _read(self) -> None:
        with closing(sqlite3.connect(self.uri, uri=True)) as file:
            if file.execute("PRAGMA user_version").fetchone()[0] != FORMAT:
                return
            rows = file.execute("SELECT url, id, records, documents FROM channel").fetchall()
        for url, channel, records, documents in rows:
            known = {name: Known(**fields) for name, fields in json.loads(documents).items()}
            self.channels[url] = Channel(channel, records, known)
