"""Bits that flipped in the package store (fault F31)."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.conftest import Place, run

FILES = {"bin/tool": b"#!/bin/sh\n", "share/data": b"x" * 3_000_000, "share/empty": b""}


def add_package(place: Place, sha256: str) -> Path:
    """Puts a package into the store as fetching does; returns its directory."""
    root = place.packages / "store" / sha256
    entries: list[dict[str, Any]] = []
    for path, content in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entries.append({"_path": path, "path_type": "hardlink", "sha256": digest})
    (root / "link").symlink_to("bin/tool")
    entries.append({"_path": "link", "path_type": "softlink", "sha256": entries[0]["sha256"]})
    (root / "info").mkdir()
    (root / "info/paths.json").write_text(json.dumps({"paths": entries, "paths_version": 1}))
    index = {"name": "tool", "version": "1", "build": sha256[:2]}
    (root / "info/index.json").write_text(json.dumps(index))
    (root / "info/repodata_record.json").write_text("{}")
    root.with_name(f"{sha256}.durable").touch()
    return root


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def verify(place: Place, *packages: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the result, and what was said of damaged packages."""
    job = {"v": 1, "job": "verify", "packages_dir": str(place.packages), "packages": packages}
    outcome = run(job)
    assert outcome.events[-2]["t"] == "progress"
    return outcome.result, [event for event in outcome.events if event["t"] == "damaged"]


def test_what_is_as_it_was_is_sound(place: Place) -> None:
    for sha256 in ("aa", "bb"):
        add_package(place, sha256)
    result, damaged = verify(place)
    assert damaged == []
    assert (result["packages"], result["files"], result["unlisted"]) == (2, 8, 0)
    assert result["bytes"] == 2 * sum(map(len, FILES.values()))


def test_each_damage_is_named(place: Place) -> None:
    add_package(place, "aa")
    root = add_package(place, "bb")
    with (root / "share/data").open("r+b") as file:
        file.seek(2_999_999)
        file.write(b"y")
    (root / "bin/tool").unlink()
    result, [damaged] = verify(place)
    assert (damaged["sha256"], damaged["name"], damaged["count"]) == ("bb", "tool-1-bb", 2)
    assert damaged["files"] == [
        {"path": "bin/tool", "problem": "is missing"},
        {"path": "share/data", "problem": "has another content"},
    ]
    assert result["packages"] == 2
    assert verify(place, "aa")[1] == []


def test_a_damaged_list_leads_nowhere(place: Place, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("secret")
    root = add_package(place, "aa")
    entry = {"_path": "../../../outside", "path_type": "hardlink", "sha256": "0" * 64}
    (root / "info/paths.json").write_text(json.dumps({"paths": [entry]}))
    add_package(place, "bb").joinpath("info/paths.json").write_text("{")
    _, damaged = verify(place)
    assert damaged[0]["files"] == [
        {"path": "../../../outside", "problem": "leads out of the package"}
    ]
    assert damaged[1]["files"][0]["path"] == "info/paths.json"


def test_a_package_without_a_list_is_counted(place: Place) -> None:
    add_package(place, "aa").joinpath("info/paths.json").unlink()
    result, damaged = verify(place)
    assert (damaged, result["unlisted"]) == ([], 1)
