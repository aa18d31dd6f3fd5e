"""The packages that all builds share: extracted, validated, named by the hash of their archive.

An entry appears complete, by rename. It becomes durable when the file system has been synced; its
`.durable` mark is made after that. After a power cut an entry without a mark may be damaged, so
the sweep at the daemon's start removes it; until then the page cache answers for it.
"""

import ctypes
import errno
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from condastore.engine.locks import Claim, claim
from condastore.engine.trees import Amount, remove_tree

LIST = "info/paths.json"
_MARK = ".durable"
# Conda's name for it; a lockfile leaves out the size, and a later build sees no archive.
_ORIGIN = "repodata_record.json"


class PackageStore:
    """The directories below `packages_dir`."""

    def __init__(self, packages_dir: Path) -> None:
        self.workspaces = packages_dir / "work"
        self.fragments = packages_dir / "fragments"
        self._packages = packages_dir / "store"
        self._bytecode = packages_dir / "bytecode"
        self._claims = packages_dir / "claims"
        # Where `condastore check` puts what it takes out.
        self._lost = packages_dir.parent / ".lost"

    def prepare(self) -> None:
        """Makes the directories of an empty store."""
        shared = (self._packages, self._bytecode, self.fragments)
        for directory in (self.workspaces, self._claims, *shared):
            directory.mkdir(parents=True, exist_ok=True)

    def package(self, sha256: str) -> Path:
        """Where the package with this hash is, if it is there."""
        return self._packages / sha256

    def names(self) -> list[str]:
        """The hashes of the packages that are there."""
        found = self._packages.iterdir() if self._packages.is_dir() else []
        return sorted(path.name for path in found if path.suffix != _MARK)

    def read_index(self, sha256: str) -> dict[str, Any]:
        """What a package says about itself, and what is known of its archive."""
        info = self.package(sha256) / "info"
        index: dict[str, Any] = json.loads((info / "index.json").read_bytes())
        return {**index, **json.loads((info / _ORIGIN).read_bytes())}

    def read_list(self, sha256: str) -> bytes | None:
        """What a package says of its files; None if it is so old that it has no such list."""
        try:
            return (self.package(sha256) / LIST).read_bytes()
        except FileNotFoundError:
            return None

    def bytecode(self, sha256: str, key: str) -> Path:
        """Where the compiled files of a package are; the key says for which Python and purpose."""
        return self._bytecode / f"{sha256}-{key}"

    def claim(self, name: str) -> Claim | None:
        """The sole right to make the entry of that name, unless another process has it."""
        return claim(self._claims / name)

    def doubtful(self, entries: Iterable[Path]) -> list[Path]:
        """Those of some entries that were not synced since they were published."""
        return [entry for entry in entries if not _mark(entry).exists()]

    def mark_durable(self, entries: Iterable[Path]) -> None:
        """Marks entries that were synced since they were published."""
        for entry in entries:
            if not _mark(entry).exists():
                _mark(entry).touch()

    def set_aside(self, sha256: str) -> Path:
        """Takes a damaged package out of the store, as whoever holds the claim to it; returns where
        it is then. What was compiled of it goes.

        It is kept, so that its bad blocks of the disk are used for nothing else.
        """
        entry = self.package(sha256)
        for compiled in self._bytecode.glob(f"{sha256}-*"):
            remove_tree(compiled)
        # First, or a crash would leave it to an entry that was never synced.
        _mark(entry).unlink(missing_ok=True)
        self._lost.mkdir(exist_ok=True)
        aside = tempfile.mkdtemp(prefix=f"store-{sha256}-", dir=self._lost)
        # It takes the place of the empty directory.
        return entry.rename(aside)

    def remove_doubtful(self) -> Amount:
        """Removes entries that were never synced; only while no build uses the store."""
        freed = Amount()
        for entry in self._entries():
            if not _mark(entry).exists():
                freed += remove_tree(entry)
        return freed

    def remove_old_claims(self) -> None:
        """Removes the claims of dead processes."""
        for path in self._claims.iterdir():
            old = claim(path)
            if old is not None:
                old.release()

    def _entries(self) -> Iterator[Path]:
        for directory in (self._packages, self._bytecode):
            yield from (path for path in directory.iterdir() if path.suffix != _MARK)


def write_origin(tree: Path, origin: dict[str, Any]) -> None:
    """Notes the hashes and the size of the archive that a tree was extracted from."""
    path = tree / "info" / _ORIGIN
    path.unlink(missing_ok=True)
    path.write_text(json.dumps(origin))
    path.chmod(0o444)


def publish(tree: Path, entry: Path) -> None:
    """Moves a finished tree to its place; its maker holds the claim to it."""
    tree.chmod(0o755)
    try:
        tree.rename(entry)
    except OSError as error:
        # The same package may also come in under its md5, which is another claim.
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise


def sync_file_system(path: Path) -> None:
    """Makes durable all that was written to the file system of `path`."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(descriptor)


def _mark(entry: Path) -> Path:
    return entry.with_name(entry.name + _MARK)
