"""What conda reads of an image's packages: a file for each, in the layer of its package.

It says nothing of the machine that made the image, and nothing that another lockfile with the
same package would say differently.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from condastore.engine.image.entries import Entry, file
from condastore.engine.image.layout import Layout
from condastore.engine.image.packages import Member, Package
from condastore.engine.jobs import Record
from condastore.engine.records import distribution


def package_metadata(
    package: Package, members: Iterable[Member], compiled: Iterable[Entry], layout: Layout
) -> Entry:
    """The file of a package below `conda-meta`."""
    paths = [_described(member, layout) for member in members]
    paths += [{"_path": _name(entry.path, layout), "path_type": "pyc_file"} for entry in compiled]
    paths.sort(key=lambda path: str(path["_path"]))
    content = {
        **package.record,
        **public_origin(package.record),
        "files": [path["_path"] for path in paths],
        "paths_data": {"paths_version": 1, "paths": paths},
        "link": {"source": "", "type": 1},
        "extracted_package_dir": "",
        "package_tarball_full_path": "",
        "requested_spec": "",
        "requested_specs": [],
    }
    name = f"conda-meta/{distribution(package.record)}.json"
    # Without indentation, for that takes ten times as long.
    return file(layout.path(name), (json.dumps(content, sort_keys=True) + "\n").encode())


def public_origin(record: Mapping[str, Any]) -> dict[str, str]:
    """Where a package is from, without the directories of the machine that a channel is on."""
    url, channel = urlsplit(record["url"]), str(record["channel"]).rstrip("/")
    if url.scheme == "file":
        name = channel.rpartition("/")[2]
        base = f"file:///{name}"
        return {"url": f"{base}/{record['subdir']}/{record['fn']}", "channel": base}
    return {"url": url._replace(netloc=url.netloc.rpartition("@")[2]).geturl(), "channel": channel}


def history(records: Sequence[Record], layout: Layout) -> Entry:
    """What conda takes for the past of the environment: one step, at no time in particular."""
    needed = {str(spec).split(" ")[0] for record in records for spec in record["depends"]}
    asked = sorted(str(record["name"]) for record in records if record["name"] not in needed)
    lines = [
        "==> 1980-01-01 00:00:00 <==",
        "# cmd: condastore",
        "# conda version: 4.12.0",
        *sorted(f"+{_source(record)}::{distribution(record)}" for record in records),
        f"# update specs: {asked!r}",
    ]
    return file(layout.path("conda-meta/history"), ("\n".join(lines) + "\n").encode())


def _source(record: Record) -> str:
    return f"{public_origin(record)['channel']}/{record['subdir']}"


def _described(member: Member, layout: Layout) -> dict[str, Any]:
    kept = {k: v for k, v in member.manifest.items() if k != "prefix_placeholder"}
    described = {**kept, "_path": _name(member.entry.path, layout)}
    if member.placeholder is not None:
        assert member.entry.data is not None
        described["sha256_in_prefix"] = hashlib.sha256(member.entry.data).hexdigest()
        described["prefix_placeholder"] = member.placeholder[0]
    return described


def _name(path: str, layout: Layout) -> str:
    return path.removeprefix(layout.path(""))
