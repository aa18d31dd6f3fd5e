"""Where prefixes are, how an environment's link is switched, and how a prefix goes away.

A prefix counts only if the database says that its build is COMPLETED. What goes away is first
renamed into a trash directory on the same file system, so that it is gone for users at once. Where
prefixes are on another, as `build_directory` may say, it gets a hidden name there, and the trash a
symbolic link to it.
"""

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from condastore.builds import check_prefix
from condastore.configuration import CondaStore
from condastore.files import PRIVATE, replace_symlink, sync_directory

_DIGEST_CHARACTERS = 32
_HIDDEN = ".trash-"


@dataclass(frozen=True)
class Store:
    """The directories of the store; those that start with a dot can't be a namespace's."""

    root: Path
    build_template: str
    environment_template: str

    @classmethod
    def of(cls, config: CondaStore) -> "Store":
        """Returns the store that the configuration describes."""
        return cls(
            Path(config.store_directory), config.build_directory, config.environment_directory
        )

    @property
    def packages(self) -> Path:
        """The package store that all builds share."""
        return self.root / ".pkgs"

    @property
    def repodata(self) -> Path:
        """What the solver keeps of channels."""
        return self.root / ".repodata"

    @property
    def scratch(self) -> Path:
        """What running children put aside; nothing in it outlives the daemon."""
        return self.root / ".scratch"

    @property
    def trash(self) -> Path:
        """What is on its way out."""
        return self.root / ".trash"

    def link_lock(self, link: Path) -> Path:
        """Returns the file that is locked by whoever switches a link of the same directory.

        It is here, where no other account comes, since everybody could lock that directory.
        """
        return self.root / ".locks" / _digest(link.parent.resolve())

    def prefix(self, namespace: str, build_version: int, key: str) -> Path:
        """Returns a build's prefix. Raises `BuildError` if its path is too long to be one."""
        path = self.prefixes("" if build_version == 3 else namespace) / key
        check_prefix(str(path))
        return path

    def prefixes(self, namespace: str) -> Path:
        """Returns where a namespace's prefixes are; for none, those of version 3."""
        directory = self.build_template.format(store_directory=self.root, namespace=namespace)
        return Path(os.path.normpath(directory))

    def environment_link(self, namespace: str, name: str) -> Path:
        """Returns the symbolic link that points to an environment's current build."""
        return Path(
            self.environment_template.format(
                store_directory=self.root, namespace=namespace, name=name
            )
        )

    def publish(self, link: Path, prefix: Path) -> None:
        """Points an environment's link to a prefix, unless it does already."""
        if not (link.is_symlink() and os.readlink(link) == str(prefix)):
            replace_symlink(link, prefix)

    def unpublish(self, link: Path) -> None:
        """Removes an environment's link."""
        if link.is_symlink():
            link.unlink()
            sync_directory(link.parent)

    def discard(self, prefix: Path) -> list[Path]:
        """Moves a prefix to the trash, if it is there.

        Returns what the trash has of it, also from an attempt that ended before the removal.
        """
        name = trash_name(prefix)
        if prefix.is_dir() and not prefix.is_symlink():
            _throw_away(prefix, self.trash / f"{name}-{uuid.uuid4().hex}")
            sync_directory(prefix.parent)
        return sorted(self.trash.glob(f"{name}-*"))

    def make(self) -> None:
        """Makes the directories of the store, which are the daemon's own.

        What is in them is locked, and everybody who could read it could hold such a lock.
        """
        for directory in (self.packages, self.repodata, self.scratch, self.trash):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(PRIVATE)

    def stored(self, hashes: Iterable[str]) -> set[str]:
        """Returns which of some packages, by their sha256, the package store has."""
        directory = self.packages / "store"
        return {sha256 for sha256 in hashes if (directory / sha256).is_dir()}

    def free_bytes(self) -> int:
        """Returns the bytes that are free on the store's file system."""
        return shutil.disk_usage(self.root).free


def trees_of(entry: Path) -> list[Path]:
    """Returns what to remove for an entry of the trash, which itself goes last."""
    if entry.is_symlink():
        elsewhere = Path(os.readlink(entry))
        # Anything else that a link leads to was left by a child, and is not ours to remove.
        if elsewhere.name == _HIDDEN + entry.name:
            return [elsewhere, entry]
    return [entry]


def _throw_away(prefix: Path, entry: Path) -> None:
    """Makes a prefix an entry of the trash."""
    try:
        os.rename(prefix, entry)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        hidden = prefix.with_name(_HIDDEN + entry.name)
        os.symlink(hidden, entry)
        sync_directory(entry.parent)
        os.rename(prefix, hidden)


def trash_name(prefix: Path) -> str:
    """Returns what the names of a prefix in the trash begin with, up to a hyphen."""
    return _digest(prefix)


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:_DIGEST_CHARACTERS]
