"""Channels of records without packages, for the package index."""

import json
from pathlib import Path
from typing import Any

from devtools.localchannel.index import write_compressed

Record = dict[str, Any]


def record(name: str, version: str = "1.0", **changes: Any) -> Record:
    """An entry of repodata."""
    return {
        "name": name,
        "version": version,
        "build": "h123_0",
        "build_number": 0,
        "depends": [],
        "license": "MIT",
        "subdir": "noarch",
        **changes,
    }


def write_records(channel: Path, *records: Any, subdir: str = "noarch") -> None:
    """Writes the repodata of one subdir; the records need not be what they should be."""
    packages = {f"{number}.conda": entry for number, entry in enumerate(records)}
    repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages}
    write_repodata(channel, json.dumps(repodata).encode(), subdir)


def write_repodata(channel: Path, content: bytes, subdir: str = "noarch") -> None:
    """Writes the repodata of one subdir as it is."""
    (channel / subdir).mkdir(parents=True, exist_ok=True)
    write_compressed(channel / subdir / "repodata.json", content)


def write_channel(channel: Path, **versions: list[str]) -> None:
    """Writes a channel with summaries; names are written with _ for -."""
    named = {name.replace("_", "-"): every for name, every in versions.items()}
    write_records(channel, *(record(name, each) for name, every in named.items() for each in every))
    summaries = {name: {"summary": f"about {name}"} for name in named}
    (channel / "channeldata.json").write_text(json.dumps({"packages": summaries}))
