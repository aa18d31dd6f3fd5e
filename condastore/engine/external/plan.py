"""Plans: records from what a tool says it would install, and a list of what it shall install."""

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from condastore.engine.events import EngineError
from condastore.engine.external.answer import Document
from condastore.engine.jobs import Record
from condastore.engine.records import label
from condastore.engine.redaction import without_credentials

_COPIED_KEYS = (
    "build_number",
    "constrains",
    "depends",
    "features",
    "license",
    "license_family",
    "md5",
    "name",
    "noarch",
    "python_site_packages_path",
    "sha256",
    "size",
    "subdir",
    "timestamp",
    "track_features",
    "version",
)
_SCHEMES = ("file", "http", "https")


def read_plan(tool: str, answer: Document) -> list[Record]:
    """The packages that a dry run would install.

    conda tells of a package in full only under FETCH, and lists it there only if it is in no
    cache; mamba and micromamba tell everything under LINK.
    """
    actions: Mapping[str, Any] = answer.get("actions") or {}
    fetched = {item["name"]: item for item in actions.get("FETCH") or []}
    return [
        _record(tool, {**item, **fetched.get(item["name"], {})})
        for item in actions.get("LINK") or []
    ]


def explicit_file(records: Iterable[Record]) -> str:
    """The packages as a file for `create --file`.

    Every tool reads the md5 of a package there, not every one its sha256.
    """
    return "\n".join(["@EXPLICIT", *map(_explicit_line, records)]) + "\n"


def _record(tool: str, item: Mapping[str, Any]) -> Record:
    if not item.get("url") or not (item.get("sha256") or item.get("md5")):
        raise EngineError(
            "engine",
            f"{tool} gives neither URL nor hash of {item['name']}: its own configuration must not "
            "name package caches (pkgs_dirs)",
        )
    url = without_credentials(item["url"])
    record = {key: item[key] for key in _COPIED_KEYS if item.get(key) not in (None, "")}
    channel, subdir, file_name = url.rsplit("/", 2)
    return {
        "depends": [],
        "constrains": [],
        "subdir": subdir,
        **record,
        "build": item.get("build") or item["build_string"],
        "channel": channel,
        "url": url,
        "fn": unquote(file_name),
    }


def _explicit_line(record: Record) -> str:
    url = record["url"].partition("#")[0]
    if urlsplit(url).scheme not in _SCHEMES or url != "".join(url.split()):
        raise EngineError("spec", f"Package {label(record)} has an unsupported kind of URL.")
    return f"{url}#{record['md5']}" if record.get("md5") else url
