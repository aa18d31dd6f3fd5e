"""The role that looks whether the files of the package store are still what their packages say."""

import json
from pathlib import Path
from typing import Any

from condastore.engine.damage import inspect
from condastore.engine.events import Events
from condastore.engine.jobs import VerifyJob
from condastore.engine.store import PackageStore


def verify(job: VerifyJob, events: Events) -> None:
    """Hashes the files of packages, and tells each package that has damaged ones."""
    store = PackageStore(Path(job["packages_dir"]))
    names = job.get("packages") or store.names()
    files = read_bytes = unlisted = 0
    for done, sha256 in enumerate(names):
        events.progress("verify", done, len(names), read_bytes)
        found = inspect(store, sha256)
        unlisted += not found.is_listed
        files, read_bytes = files + found.files, read_bytes + found.bytes
        if found.damaged:
            found.tell(sha256, _name(store.package(sha256), sha256), events)
    events.progress("verify", len(names), len(names), read_bytes)
    events.result(packages=len(names), files=files, bytes=read_bytes, unlisted=unlisted)


def _name(root: Path, sha256: str) -> str:
    try:
        index: dict[str, Any] = json.loads((root / "info" / "index.json").read_bytes())
        return f"{index['name']}-{index['version']}-{index['build']}"
    except (OSError, ValueError, KeyError, TypeError):
        return sha256
