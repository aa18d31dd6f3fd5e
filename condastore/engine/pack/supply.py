"""What the packages of a prefix have brought, as the package store has it.

It is known before anybody looks at the prefix, where files may be missing or changed.
"""

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from condastore.engine.events import EngineError
from condastore.engine.pack.fragments import ANY, Fragments, Listing
from condastore.engine.pack.installed import Installed, Metadata, site_packages_of
from condastore.engine.pack.parts import File, Part


@dataclass(frozen=True)
class Brought:
    """A package and what it brought: its files, and its metadata if that is a part of an archive.

    Of a package that is not in the store nothing is known.
    """

    package: Installed
    metadata: Part | None = None
    files: Part | None = None
    is_noarch: bool = False


class Supply:
    """All packages of a prefix."""

    def __init__(
        self, metadata: Sequence[Metadata], packages_dir: Path, fragments: Fragments
    ) -> None:
        self.packages = [each.package for each in metadata]
        self.site_packages = site_packages_of(self.packages)
        self._packages_dir = packages_dir
        self._fragments = fragments
        self.brought = [self._brought(each) for each in metadata]

    @property
    def parts(self) -> list[Part]:
        """What an archive is joined from if the prefix has all files as they were brought."""
        each_two = ((each.metadata, each.files) for each in self.brought)
        return [part for two in each_two for part in two if part is not None]

    def without(self, omitted: frozenset[str], brought: Brought) -> Part:
        """Returns the files of a package but some."""
        return self._part(brought.package.source, omitted, is_noarch=brought.is_noarch)

    def _brought(self, each: Metadata) -> Brought:
        source = each.package.source
        # What lies elsewhere is not known to be what it was when it was checked.
        if not source.startswith(f"{self._packages_dir}/") or not os.path.isdir(source):
            return Brought(each.package)
        is_noarch = _is_noarch_python(source)
        files = self._part(source, frozenset(), is_noarch=is_noarch)
        return Brought(each.package, each.part, files, is_noarch)

    def _part(self, source: str, omitted: frozenset[str], *, is_noarch: bool) -> Part:
        site_packages = self.site_packages if is_noarch else None
        key = self._fragments.key(source, site_packages, omitted)
        fragment = self._fragments.load(key)
        if fragment is not None:
            files = partial(_files_of, source, site_packages, omitted)
            return Part(key, fragment.listing, files, fragment)
        found = _files_of(source, site_packages, omitted)
        return Part(key, _list(found), lambda: found, None)


def _files_of(source: str, site_packages: str | None, omitted: frozenset[str]) -> list[File]:
    """Returns what a package of the store brings, and where it belongs in a prefix."""
    # What its metadata lists beside that was made by the installer, and is the prefix's own.
    # Imported here because packages that are packed don't need it, and it takes long.
    from conda_pack.core import CondaPackException, load_managed_package

    info = {"name": os.path.basename(source), "link": {"source": source}, "files": []}
    try:
        files: list[File] = load_managed_package(info, "", site_packages, {})
    except (CondaPackException, OSError, ValueError, KeyError, TypeError) as error:
        raise EngineError("package", f"The package {source} can't be packed: {error}") from None
    return sorted((f for f in files if f.target not in omitted), key=lambda file: str(file.target))


def _list(files: Sequence[File]) -> Listing:
    listing = Listing()
    for file in files:
        status = os.lstat(file.source)
        listing.device = status.st_dev
        listing.bytes += status.st_size
        if stat.S_ISDIR(status.st_mode):
            listing.directories.append(file.target)
            continue
        if stat.S_ISLNK(status.st_mode):
            listing.links[file.target] = os.readlink(file.source)
        listing.targets.append(file.target)
        listing.inodes.append(status.st_ino)
        listing.sizes.append(ANY if file.file_mode == "text" else status.st_size)
        listing.mtimes.append(ANY if file.file_mode == "binary" else int(status.st_mtime))
    return listing


def _is_noarch_python(source: str) -> bool:
    """Whether conda_pack thinks so."""
    for name in ("link.json", "package_metadata.json"):
        try:
            with open(os.path.join(source, "info", name), "rb") as file:
                noarch = json.load(file).get("noarch")
            return isinstance(noarch, dict) and noarch.get("type") == "python"
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            text = f"The package {source} can't be packed: {error}"
            raise EngineError("package", text) from None
    return False
