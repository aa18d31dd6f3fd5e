"""The role that looks whether the files of the package store are still what their packages say."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from condastore.engine.events import Events
from condastore.engine.jobs import VerifyJob
from condastore.engine.store import PackageStore
from condastore.engine.validate import is_inside, sha256_of

# So many files of a package are named; of one that is gone altogether that is enough.
_NAMED = 20


@dataclass
class _Seen:
    """What was found of one package."""

    files: int = 0
    bytes: int = 0
    damaged: list[dict[str, str]] = field(default_factory=list)


def verify(job: VerifyJob, events: Events) -> None:
    """Hashes the files of packages, and tells each package that has damaged ones."""
    store = PackageStore(Path(job["packages_dir"]))
    names = job.get("packages") or store.names()
    files = read_bytes = unlisted = 0
    for done, sha256 in enumerate(names):
        events.progress("verify", done, len(names), read_bytes)
        root = store.package(sha256)
        try:
            seen = _Seen()
            for path, problem in _problems(root, seen):
                seen.damaged.append({"path": path, "problem": problem})
        except FileNotFoundError:
            # It is gone altogether, or so old that it has no list.
            unlisted += 1
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            seen.damaged.append({"path": "info/paths.json", "problem": f"can't be read: {error}"})
        files, read_bytes = files + seen.files, read_bytes + seen.bytes
        if seen.damaged:
            events.damaged(
                sha256=sha256,
                name=_name(root, sha256),
                files=seen.damaged[:_NAMED],
                count=len(seen.damaged),
            )
    events.progress("verify", len(names), len(names), read_bytes)
    events.result(packages=len(names), files=files, bytes=read_bytes, unlisted=unlisted)


def _problems(root: Path, seen: _Seen) -> Iterator[tuple[str, str]]:
    """Yields files that aren't as the package's list says, and why not."""
    for entry in json.loads((root / "info" / "paths.json").read_bytes())["paths"]:
        path = os.path.normpath(entry["_path"])
        seen.files += 1
        # The list itself may be what is damaged.
        if not is_inside(root, (root / path).parent):
            yield path, "leads out of the package"
        elif not os.path.lexists(root / path):
            yield path, "is missing"
        elif (root / path).is_file() and not (root / path).is_symlink() and "sha256" in entry:
            try:
                seen.bytes += (root / path).stat().st_size
                if sha256_of(f"{root}/{path}") != entry["sha256"]:
                    yield path, "has another content"
            except OSError as error:
                # A disk that can't read it any more (EIO).
                yield path, f"can't be read: {error.strerror}"


def _name(root: Path, sha256: str) -> str:
    try:
        index: dict[str, Any] = json.loads((root / "info" / "index.json").read_bytes())
        return f"{index['name']}-{index['version']}-{index['build']}"
    except (OSError, ValueError, KeyError, TypeError):
        return sha256
