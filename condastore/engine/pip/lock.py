"""The chosen files of a `pip:` section: read from and written to uv's `pylock.toml`."""

import json
import re
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from condastore.engine.events import EngineError

Entry = dict[str, Any]
"""One package: `name`, `version`, `url`, `hash` with its `sha256`, and `requires`."""

_NAME_SEPARATORS = re.compile(r"[-_.]+")


def canonical_name(name: str) -> str:
    """The one spelling of a distribution's name."""
    return _NAME_SEPARATORS.sub("-", name).lower()


def read_pylock(document: str) -> list[Entry]:
    """The packages that uv chose, each with the one file that suits the platform best."""
    return [_entry(package) for package in tomllib.loads(document).get("packages", [])]


def write_pylock(entries: Iterable[Entry]) -> str:
    """A `pylock.toml` from which uv installs exactly these files, and no others."""
    lines = ['lock-version = "1.0"', 'created-by = "condastore"']
    for entry in entries:
        file = _inline_file(entry)
        wheel = _file_name(entry["url"]).endswith(".whl")
        lines += [
            "[[packages]]",
            f"name = {_quoted(entry['name'])}",
            f"version = {_quoted(entry['version'])}",
            f"wheels = [{file}]" if wheel else f"sdist = {file}",
        ]
    return "\n".join(lines) + "\n"


def _entry(package: dict[str, Any]) -> Entry:
    file = _best_file(package)
    return {
        "name": package["name"],
        "version": package["version"],
        "url": file["url"],
        "hash": {"sha256": file["hashes"].get("sha256")},
        "requires": [],
    }


def _best_file(package: dict[str, Any]) -> dict[str, Any]:
    wheels: Sequence[dict[str, Any]] = package.get("wheels", [])
    if wheels:
        return max(wheels, key=lambda wheel: _suitability(_file_name(wheel["url"])))
    file = package.get("archive") or package.get("sdist")
    if file is None:
        text = f"pip: {package['name']} comes neither from an index nor from the URL of a file"
        raise EngineError("spec", text)
    return dict(file)


def _suitability(wheel: str) -> tuple[bool, bool, list[int]]:
    """Ranks wheels that all fit: best is one made for this platform and just this interpreter."""
    python, abi, platform = wheel.removesuffix(".whl").rsplit("-", 3)[1:]
    python_versions = [int(number) for number in re.findall(r"\d+", python)]
    return platform != "any", abi not in ("none", "abi3"), python_versions


def _file_name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _inline_file(entry: Entry) -> str:
    digest = entry["hash"].get("sha256")
    if not digest:
        raise EngineError("hash", f"pip: {entry['name']} has no sha256 to check its file by")
    return f"{{ url = {_quoted(entry['url'])}, hashes = {{ sha256 = {_quoted(digest)} }} }}"


def _quoted(text: str) -> str:
    # A JSON string is a TOML string, unless it escapes characters beyond 16 bits.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
