"""The wheels of a variant, downloaded once and kept in a cache directory."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

#: A release of a project, as ``(normalised name, version)``.
Release = tuple[str, Version]


class DownloadFailed(RuntimeError):
    """The wheels could not be fetched; the message holds what pip said."""


def fetch(releases: Iterable[Release], cache: Path) -> list[Path]:
    """Return a wheel of each release that runs here, downloading those the cache lacks."""
    wanted = list(dict.fromkeys(releases))
    cache.mkdir(parents=True, exist_ok=True)
    with _exclusive(cache):
        present = _cached(cache)
        missing = [release for release in wanted if release not in present]
        for batch in _batches(missing):
            _download(batch, cache)
        present = _cached(cache)
    if absent := [
        f"{name} {version}" for name, version in wanted if (name, version) not in present
    ]:
        raise DownloadFailed(f"pip downloaded no usable wheel of {', '.join(absent)}")
    return [present[release] for release in wanted]


def _cached(cache: Path) -> Mapping[Release, Path]:
    """Return the best wheel for this interpreter of each release in the cache."""
    ranks = {tag: rank for rank, tag in enumerate(sys_tags())}
    best: dict[Release, tuple[int, Path]] = {}
    for path in sorted(cache.glob("*.whl")):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        rank = _rank(tags, ranks)
        if rank is not None and rank < best.get((name, version), (len(ranks), path))[0]:
            best[name, version] = rank, path
    return {release: path for release, (_, path) in best.items()}


def _rank(tags: Iterable[Tag], ranks: Mapping[Tag, int]) -> int | None:
    return min((ranks[tag] for tag in tags if tag in ranks), default=None)


def _batches(releases: Iterable[Release]) -> Iterator[list[Release]]:
    """Split releases so that no batch has two of one project: pip takes that for a conflict."""
    by_project: dict[str, list[Release]] = defaultdict(list)
    for release in releases:
        by_project[release[0]].append(release)
    for nth in range(max(map(len, by_project.values()), default=0)):
        yield [versions[nth] for versions in by_project.values() if nth < len(versions)]


def _download(releases: Iterable[Release], cache: Path) -> None:
    requirements = [f"{canonicalize_name(name)}=={version}" for name, version in releases]
    command = [*_pip(), "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    finished = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", cache, *requirements],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        # The pins are exact: constraints meant for the machine must not add to them.
        env={**os.environ, "PIP_CONSTRAINT": ""},
    )
    if finished.returncode:
        raise DownloadFailed(f"pip download failed:\n{finished.stderr.strip()}")


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    # A virtual environment made by uv has no pip, but then there is uv.
    return ["uv", "tool", "run", "--python", sys.executable, "pip"]


@contextmanager
def _exclusive(cache: Path) -> Iterator[None]:
    with open(cache / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
