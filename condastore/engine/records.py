"""What a record says about its package, and rattler's own form of it."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rattler import PackageRecord, RepoDataRecord

from condastore.engine.events import EngineError
from condastore.engine.jobs import Record

_FILE_NAME = re.compile(r"[A-Za-z0-9_.!+-]+(?:\.conda|\.tar\.bz2)")
_HASHES = {"sha256": re.compile("[0-9a-f]{64}"), "md5": re.compile("[0-9a-f]{32}")}


def checked(record: Record) -> Record:
    """A copy of a record whose hashes and file name are safe as names of files."""
    record = dict(record)
    for kind, pattern in _HASHES.items():
        value = str(record.get(kind) or "").lower()
        if value and not pattern.fullmatch(value):
            raise EngineError("hash", f"Package {label(record)} has an invalid {kind}.")
        record[kind] = value or None
    if not (record["sha256"] or record["md5"]):
        raise EngineError("hash", f"Package {label(record)} has neither a sha256 nor an md5.")
    if not _FILE_NAME.fullmatch(file_name(record)):
        raise EngineError("spec", f"{label(record)} is not the URL of a conda package.")
    return record


def archive_hash(record: Record) -> str:
    """The best hash that is known of the archive."""
    return str(record["sha256"] or f"md5-{record['md5']}")


def file_name(record: Record) -> str:
    """The name of the archive."""
    return record.get("fn") or unquote(urlsplit(record["url"]).path).rpartition("/")[2]


def distribution(record: Record) -> str:
    """What the package is called in a prefix; only for completed records."""
    return f"{record['name'].lower()}-{record['version']}-{record['build']}"


def archive_stem(record: Record) -> str:
    """`name-version-build`, as the archive is called."""
    return file_name(record).removesuffix(".conda").removesuffix(".tar.bz2")


def label(record: Record) -> str:
    """How messages call a package."""
    return f"{record['name']} {record['version']} ({record['url']})"


def channel(record: Record) -> str:
    """The URL of the channel; a record from a lockfile has it only as a part of its URL."""
    return str(record.get("channel") or record["url"].rsplit("/", 2)[0])


def completed(record: Record, index: Mapping[str, Any]) -> Record:
    """The record with what it lacks filled in from its package's `info/index.json`."""
    given = {key: value for key, value in record.items() if value is not None}
    return {**index, "fn": file_name(record), "channel": channel(record), **given}


def for_rattler(records: Sequence[Record]) -> list[RepoDataRecord]:
    """The same records for rattler, which parses them only from files."""
    # In memory: a file system flushes a file that is rewritten from nothing each time it is closed.
    descriptor = os.memfd_create("record")
    try:
        return [_for_rattler(record, descriptor) for record in records]
    finally:
        os.close(descriptor)


def _for_rattler(record: Record, descriptor: int) -> RepoDataRecord:
    size = os.pwrite(descriptor, json.dumps(record).encode(), 0)
    os.ftruncate(descriptor, size)
    parsed = PackageRecord.from_index_json(
        Path(f"/proc/self/fd/{descriptor}"), record["size"], record["sha256"], record.get("md5")
    )
    return RepoDataRecord(parsed, record["fn"], record["url"], record["channel"])
