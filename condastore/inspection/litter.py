"""What only work in progress may leave: half-made files, the trash, logs that nobody reads."""

import json
import shutil
from asyncio import to_thread
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from condastore.build_rows import log_key
from condastore.builds import FINAL
from condastore.files import half_written, move_file
from condastore.inspection.findings import Finding
from condastore.inspection.scene import Scene, build_named

_LATER = "removed, as the next start of the daemon does"


async def inspect_litter(scene: Scene) -> AsyncIterator[Finding]:
    """Yields what is left of work that came to nothing."""
    for kind, paths in (await to_thread(_litter, scene)).items():
        for path in paths:
            yield Finding(kind, str(path), _LATER, partial(to_thread, _remove, scene, path))


async def inspect_logs(scene: Scene) -> AsyncIterator[Finding]:
    """Yields logs that no build has, and those that should be in the storage."""
    directory = scene.data / "logs"
    for path in await to_thread(lambda: sorted(directory.glob("*.log"))):
        build = await build_named(scene, path.stem)
        if build is None:
            yield Finding(
                "log without a build",
                str(path),
                f"moved to {scene.data / 'lost'}",
                partial(to_thread, _keep, scene, path),
            )
        elif build.status in FINAL and await _is_another_daemons(scene, log_key(build)):
            yield Finding(
                "log that another daemon has stored",
                str(path),
                f"moved to {scene.data / 'lost'}: the stored one is of who took the build over",
                partial(to_thread, _keep, scene, path),
            )
        elif build.status in FINAL:
            yield Finding(
                "log that is not stored",
                str(path),
                "stored, as the next start of the daemon does",
                partial(scene.storage.move_file, log_key(build), path),
            )


async def inspect_outbox(scene: Scene) -> AsyncIterator[Finding]:
    """Yields files that wait for the storage and that nothing says what to do with."""
    for path in await to_thread(_unsaid, scene.data / "unstored"):
        yield Finding(
            "file that waits for the storage without a note",
            str(path),
            _LATER,
            partial(to_thread, path.unlink, missing_ok=True),
        )


def _litter(scene: Scene) -> dict[str, list[Path]]:
    store, packages = scene.store, scene.store.packages
    entries = [*packages.glob("store/*"), *packages.glob("bytecode/*")]
    names = {str(path) for path in entries}
    doubtful = [
        path for path in entries if path.suffix != ".durable" and f"{path}.durable" not in names
    ]
    marks = [
        path
        for path in entries
        if path.suffix == ".durable" and str(path).removesuffix(".durable") not in names
    ]
    return {
        "file on its way out": sorted(store.trash.glob("*")),
        "directory of a dead child": sorted(store.scratch.glob("*")),
        "half-made package": sorted(packages.glob("work/*")),
        "claim to a package of a dead build": sorted(packages.glob("claims/*")),
        "package that was never synced": sorted(doubtful),
        "mark of a package that is gone": sorted(marks),
        "directory of a dead conda": sorted((store.repodata / "external" / "work").glob("*")),
        "half-written file": sorted(
            [
                *_half_written(scene.unfinished),
                *half_written(scene.data),
                *scene.database.half_made_backups(),
                *(path for path in store.root.glob("*/envs/.*.new") if path.is_symlink()),
                *(path for path in scene.data.glob(".*.new") if path.is_socket()),
            ]
        ),
    }


def _half_written(unfinished: Path | None) -> list[Path]:
    """Returns what daemons that died were writing; the lock beside it is there for good."""
    if unfinished is None:
        return []
    return [path for path in unfinished.glob("*") if path.name != "lock"]


def _remove(scene: Scene, path: Path) -> None:
    if path.parent == scene.store.trash:
        # It is there already; the trash is emptied when all is mended.
        return
    if path.is_relative_to(scene.store.root):
        scene.discard(path)
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


async def _is_another_daemons(scene: Scene, key: str) -> bool:
    """Whether a log is stored that is not of this data directory; on SQLite there is no other."""
    return not scene.database.is_sqlite and await scene.storage.size(key) is not None


def _keep(scene: Scene, path: Path) -> None:
    move_file(path, scene.lost_file(path.name))


def _unsaid(directory: Path) -> list[Path]:
    """Returns what a crash left in the outbox: files and notes that lack each other."""
    said = set()
    for note in directory.glob("*.json"):
        try:
            is_stored = bool(json.loads(note.read_bytes())["stored"])
        except (ValueError, KeyError, TypeError):
            continue
        file = note.with_suffix(".data")
        if not is_stored:
            said.add(note)
        elif file.is_file():
            said |= {note, file}
    return sorted(path for path in directory.glob("*") if path not in said)
