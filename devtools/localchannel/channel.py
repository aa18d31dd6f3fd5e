"""One channel from start to finish: made once, whoever else wants it at the same time."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from packaging.utils import parse_wheel_filename

from devtools.localchannel import variants
from devtools.localchannel.conversion import package_of
from devtools.localchannel.downloads import fetch
from devtools.localchannel.index import write_index
from devtools.localchannel.interpreter import (
    SUBDIR,
    interpreter_key,
    python_abi_package,
    python_package,
)
from devtools.localchannel.package import Package, Record
from devtools.localchannel.synthetic import DEFAULT_RECORDS, write_synthetic

#: Raised with every change of the generator that changes what it makes.
GENERATOR_VERSION = 1

_STAMP = ".localchannel"


class ChannelIncomplete(RuntimeError):
    """Packages of the channel depend on packages that it lacks; the message names them."""


def make_channel(
    variant: str,
    output: Path,
    cache: Path | None = None,
    *,
    records: int = DEFAULT_RECORDS,
    names: int | None = None,
) -> Path:
    """Make a channel in the directory ``output``, unless it is there already.

    Downloads are kept in ``cache``; ``records`` and ``names`` are the size of the synthetic
    variant. The channel appears complete or not at all, and two processes may ask for it at once.
    """
    if variant == "synthetic":
        size = f"synthetic {records}" if names is None else f"synthetic {records} {names}"
        return _make(output, size, lambda to: write_synthetic(to, records, names))
    if variant not in variants.PACKAGED:
        raise ValueError(f"no variant {variant!r}: choose one of {', '.join(variants.NAMES)}")
    wheels = cache or default_cache()
    key = f"{variants.definition(variant)}\n{interpreter_key()}"
    return _make(output, key, lambda to: _write_packages(variant, to, wheels))


def default_cache() -> Path:
    """Return where downloads are kept for this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "condastore-localchannel")


def _make(output: Path, key: str, write: Callable[[Path], None]) -> Path:
    stamp = hashlib.sha256(f"{GENERATOR_VERSION}\n{key}".encode()).hexdigest()
    output = output.absolute()
    with _exclusive(output):
        if _stamp_of(output) == stamp:
            return output
        if output.exists() and _stamp_of(output) is None and any(output.iterdir()):
            raise FileExistsError(f"{output} holds something other than a local channel")
        with _scratch(output) as directory:
            write(directory)
            (directory / _STAMP).write_text(stamp)
            if output.exists():
                output.rename(directory.with_suffix(".replaced"))
            directory.rename(output)
    return output


def _stamp_of(channel: Path) -> str | None:
    try:
        return (channel / _STAMP).read_text()
    except FileNotFoundError:
        return None


@contextmanager
def _scratch(output: Path) -> Iterator[Path]:
    """Give a directory beside the output, and leave nothing of it behind."""
    directory = output.with_name(f".{output.name}.partial")
    leftovers = (directory, directory.with_suffix(".replaced"))
    # Only who holds the lock gets here, so what is there was left by a crash.
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)
    directory.mkdir()
    try:
        yield directory
    finally:
        for leftover in leftovers:
            shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _exclusive(output: Path) -> Iterator[None]:
    output.parent.mkdir(parents=True, exist_ok=True)
    with open(output.with_name(f".{output.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write_packages(variant: str, channel: Path, cache: Path) -> None:
    for subdir in (SUBDIR, "noarch"):
        (channel / subdir).mkdir()
    # Not forked: the caller may have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(mp_context=context) as pool:
        interpreter = [
            pool.submit(_write, make, channel) for make in (python_package, python_abi_package)
        ]
        # The longest first, so that no worker is left alone with it at the end.
        wheels = sorted(fetch(variants.releases(variant), cache), key=_size, reverse=True)
        converted = [pool.submit(_convert, wheel, channel) for wheel in wheels]
        records = [future.result() for future in (*interpreter, *converted)]
    _check_complete(records)
    write_index(channel, records, SUBDIR)


def _write(make: Callable[[], Package], channel: Path) -> Record:
    return make().write(channel)


def _convert(wheel: Path, channel: Path) -> Record:
    name, version, _, _ = parse_wheel_filename(wheel.name)
    old = (name, version) in variants.OLD_FORMAT
    return package_of(wheel).write(channel, ".tar.bz2" if old else ".conda")


def _size(path: Path) -> int:
    return path.stat().st_size


def _check_complete(records: Iterable[Record]) -> None:
    every = list(records)
    names = {record.repodata["name"] for record in every}
    absent = {
        f"{record.filename} needs {dependency}"
        for record in every
        for dependency in record.repodata["depends"]
        if dependency.partition(" ")[0] not in names
    }
    if absent:
        raise ChannelIncomplete("the channel lacks packages:\n" + "\n".join(sorted(absent)))
