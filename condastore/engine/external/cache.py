"""The packages that external tools have fetched: checked, then shared by all builds.

A tool fetches into a private directory of its build and reads the shared one. Builds so never wait
for, nor damage, each other's packages, and a killed build leaves nothing in the shared directory.
"""

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from condastore.engine.events import EngineError
from condastore.engine.jobs import Limits, Record
from condastore.engine.locks import held
from condastore.engine.records import distribution, file_name, label
from condastore.engine.store import sync_file_system
from condastore.engine.trees import remove_tree
from condastore.engine.validate import validate

_SCRIPTS = ("pre-link", "post-link")


class PackageCache:
    """The package directories of one build, for the packages of its lock."""

    def __init__(self, private: Path, shared: Path, records: Sequence[Record]) -> None:
        self.directories = (private, shared)
        self._private = private
        self._shared = shared
        self._records = records
        for directory in self.directories:
            directory.mkdir(parents=True, exist_ok=True)
        self._remove_halves()

    def count_missing(self) -> int:
        """How many packages have to be fetched."""
        return sum(not (self._shared / file_name(record)).exists() for record in self._records)

    def count_fetched(self) -> int:
        """How many archives the build has fetched so far."""
        return sum((self._private / file_name(record)).exists() for record in self._records)

    def publish(self, limits: Limits) -> None:
        """Checks all packages, and shares those that were fetched."""
        fetched = []
        for record in self._records:
            directory = self._directory_of(record)
            _check_hash(directory / file_name(record), record)
            if directory == self._private:
                validate(directory / distribution(record), record, limits)
                _let_owner_write(directory / distribution(record))
                fetched.append(record)
        # What is shared must be whole even after a power cut.
        sync_file_system(self._private)
        with held(self._shared):
            for record in fetched:
                # Another build may have been faster, or another channel has a file of that name.
                if not (self._shared / file_name(record)).exists():
                    for name in _names(record):
                        (self._private / name).rename(self._shared / name)

    def scripts(self) -> Iterator[tuple[Record, str]]:
        """The packages that run a script when they are linked, and which."""
        for record in self._records:
            tree = self._directory_of(record) / distribution(record)
            for script in _SCRIPTS:
                if (tree / "bin" / f".{record['name']}-{script}.sh").exists():
                    yield record, script

    def _directory_of(self, record: Record) -> Path:
        for directory in self.directories:
            if all((directory / name).exists() for name in _names(record)):
                return directory
        raise EngineError("engine", f"Package {label(record)} was not fetched.")

    def _remove_halves(self) -> None:
        """Removes what a crash amid `publish` has left: a tree or an archive without the other."""
        with held(self._shared):
            for record in self._records:
                paths = [self._shared / name for name in _names(record)]
                if len({path.exists() for path in paths}) > 1:
                    for path in paths:
                        remove_tree(path)


def _names(record: Record) -> tuple[str, str]:
    return distribution(record), file_name(record)


def _check_hash(archive: Path, record: Record) -> None:
    algorithm = "sha256" if record["sha256"] else "md5"
    with open(archive, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != record[algorithm]:
        text = f"Package {label(record)} has {algorithm} {found}, but the lock says "
        raise EngineError("hash", f"{text}{record[algorithm]}.")


def _let_owner_write(tree: Path) -> None:
    # Tools replace the prefix within a file in place, in a copy that keeps the mode.
    for directory, _, files in os.walk(tree):
        for name in files:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                os.chmod(path, os.stat(path).st_mode | stat.S_IWUSR)
