"""Packages of the store that are not as their own lists say, or that no disk can read any more."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condastore.engine.events import Events
from condastore.engine.jobs import Record
from condastore.engine.records import label
from condastore.engine.store import LIST, PackageStore
from condastore.engine.validate import is_inside, sha256_of

# So many files of a package are named; of one that is gone altogether that is enough.
_NAMED = 20
_CLAIM_RETRY_S = 0.05


@dataclass
class Inspected:
    """What was found of one package."""

    files: int = 0
    bytes: int = 0
    is_listed: bool = False
    """Whether it has a list, which old ones and those that are gone have not."""
    damaged: list[dict[str, str]] = field(default_factory=list)

    def add(self, path: str, problem: str) -> None:
        """Notes what is wrong with a file."""
        self.damaged.append({"path": path, "problem": problem})

    def tell(self, sha256: str, name: str, events: Events) -> None:
        """Tells which files are damaged."""
        files, count = self.damaged[:_NAMED], len(self.damaged)
        events.damaged(sha256=sha256, name=name, files=files, count=count)


def inspect(store: PackageStore, sha256: str) -> Inspected:
    """Reads all files of a package, and compares them with its list."""
    found, root = Inspected(), store.package(sha256)
    if not root.is_dir():
        return found
    try:
        store.read_index(sha256)
    except (OSError, ValueError) as error:
        found.add("info", f"can't be read: {_reason(error)}")
    try:
        listed = store.read_list(sha256)
        found.is_listed = listed is not None
        for entry in json.loads(listed)["paths"] if listed is not None else ():
            _inspect_file(root, entry, found)
    except (OSError, ValueError, KeyError, TypeError) as error:
        found.add(LIST, f"can't be read: {_reason(error)}")
    return found


def set_aside_damaged(records: Sequence[Record], store: PackageStore, events: Events) -> bool:
    """Takes those of some packages out of the store that are damaged or partly gone (F25, F30).

    Returns whether there were any, also if another build has taken them out: then the packages
    can be fetched again.
    """
    found = [_set_aside_if_damaged(r, store, events) for r in records if r.get("sha256")]
    return any(found)


def _set_aside_if_damaged(record: Record, store: PackageStore, events: Events) -> bool:
    sha256 = record["sha256"]
    while (claim := store.claim(sha256)) is None:
        time.sleep(_CLAIM_RETRY_S)
    with claim:
        if not store.package(sha256).is_dir():
            return True
        found = inspect(store, sha256)
        if not found.damaged:
            return False
        aside = store.set_aside(sha256)
    found.tell(sha256, label(record), events)
    first = found.damaged[0]
    events.log(
        f"warning: package {label(record)} is damaged in the store: {first['path']} "
        f"{first['problem']}; it was moved to {aside}, and is fetched again"
    )
    return True


def _inspect_file(root: Path, entry: dict[str, Any], found: Inspected) -> None:
    path = os.path.normpath(entry["_path"])
    found.files += 1
    # The list itself may be what is damaged.
    if not is_inside(root, (root / path).parent):
        found.add(path, "leads out of the package")
    elif not os.path.lexists(root / path):
        found.add(path, "is missing")
    elif (root / path).is_file() and not (root / path).is_symlink() and "sha256" in entry:
        try:
            found.bytes += (root / path).stat().st_size
            if sha256_of(f"{root}/{path}") != entry["sha256"]:
                found.add(path, "has another content")
        except OSError as error:
            # A disk that can't read it any more (EIO).
            found.add(path, f"can't be read: {_reason(error)}")


def _reason(error: Exception) -> Any:
    return error.strerror if isinstance(error, OSError) else error
