"""The index of a channel: ``repodata.json`` for each subdir, and ``channeldata.json``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zstandard
from packaging.version import Version

from devtools.localchannel.package import Record


def write_index(channel: Path, records: Iterable[Record], subdir: str) -> None:
    """Index a channel of one platform; ``noarch`` is always there, since solvers ask for it."""
    ordered = sorted(records, key=lambda record: record.filename)
    for name in (subdir, "noarch"):
        write_repodata(channel / name, [record for record in ordered if record.subdir == name])
    channeldata = {
        "channeldata_version": 1,
        "packages": _channeldata(ordered),
        "subdirs": sorted([subdir, "noarch"]),
    }
    (channel / "channeldata.json").write_bytes(_json(channeldata))


def write_repodata(directory: Path, records: Iterable[Record]) -> None:
    """Write ``repodata.json`` and its compressed twin for one subdir."""
    sections: dict[str, dict[str, Any]] = {"packages": {}, "packages.conda": {}}
    for record in records:
        section = "packages.conda" if record.filename.endswith(".conda") else "packages"
        sections[section][record.filename] = record.repodata
    repodata = {"info": {"subdir": directory.name}, **sections, "removed": []}
    directory.mkdir(parents=True, exist_ok=True)
    write_compressed(directory / "repodata.json", _json({**repodata, "repodata_version": 1}))


def write_compressed(path: Path, content: bytes) -> None:
    """Write a file, and beside it the same compressed by zstd."""
    path.write_bytes(content)
    path.with_name(path.name + ".zst").write_bytes(zstandard.ZstdCompressor().compress(content))


def _channeldata(records: Iterable[Record]) -> Mapping[str, Any]:
    packages: dict[str, dict[str, Any]] = {}
    for record in sorted(records, key=lambda record: Version(record.repodata["version"])):
        data = record.repodata
        known = packages.get(data["name"], {"subdirs": []})
        packages[data["name"]] = {
            **record.about,
            "activate.d": False,
            "license": data["license"],
            "post_link": False,
            "subdirs": sorted({*known["subdirs"], record.subdir}),
            "timestamp": data["timestamp"] // 1000,
            "version": data["version"],
        }
    return dict(sorted(packages.items()))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
