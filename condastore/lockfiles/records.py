"""Lockfiles from and to the records that the engine works with."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from condastore.lockfiles.conda_lock import (
    Hash,
    Lockfile,
    Package,
    alphabetically,
    metadata,
    pip_package,
)

# A package as the engine knows it: with the keys of repodata.
Record = dict[str, Any]


class Locked(NamedTuple):
    """The packages of one platform, as a build job takes them."""

    records: list[Record]
    pip: list[Record]


def from_records(
    packages: Mapping[str, Iterable[Record]],
    pip: Mapping[str, Iterable[Record]],
    channels: Iterable[str],
    content_hash: str,
) -> Lockfile:
    """The lockfile of a solve: what it found per platform, and what pip resolved per platform."""
    locked = [_from_record(record, key) for key, records in packages.items() for record in records]
    locked += [_from_pip(entry, key) for key, entries in pip.items() for entry in entries]
    return Lockfile(
        version=1,
        metadata=metadata(dict.fromkeys(packages, content_hash), channels),
        package=sorted(locked, key=alphabetically),
    )


def _from_record(record: Record, platform: str) -> Package:
    return Package(
        name=record["name"],
        version=record["version"],
        manager="conda",
        platform=platform,
        dependencies=dependencies(record["depends"]),
        url=record["url"],
        hash=Hash(md5=record.get("md5"), sha256=record.get("sha256")),
        category="main",
        optional=False,
    )


def dependencies(depends: Iterable[str]) -> dict[str, str]:
    """Constraints by name, sorted; two on one name are joined, one with a build string last."""
    found: dict[str, str] = {}
    for entry in sorted(depends):
        name, _, constraint = entry.partition(" ")
        both = sorted(filter(None, (found.get(name), constraint)), key=lambda text: " " in text)
        found[name] = ",".join(both)
    return found


def _from_pip(entry: Record, platform: str) -> Package:
    return pip_package(
        entry["name"],
        entry["version"],
        platform,
        entry["url"],
        msgspec.convert(entry["hash"], Hash),
        dependencies=requirements(entry.get("requires") or ()),
    )


def requirements(requires: Iterable[str]) -> dict[str, str]:
    """Constraints by name, sorted, of what a wheel requires without an extra."""
    found = {}
    for text in requires:
        try:
            requirement = Requirement(text)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        except (ValueError, RecursionError):
            # Old wheels say what no standard allows; they were installed all the same.
            continue
        if wanted:
            found[canonicalize_name(requirement.name)] = str(requirement.specifier) or "*"
    return dict(sorted(found.items()))


def locked_for(lockfile: Lockfile, platform: str) -> Locked:
    """What to install on a platform."""
    installed = lockfile.installed(platform)
    return Locked(
        [_to_record(package) for package in installed if package.manager == "conda"],
        [_to_pip(package) for package in installed if package.manager == "pip"],
    )


def _to_record(package: Package) -> Record:
    """The keys of repodata that can be told from a lockfile."""
    channel, subdir, fn = package.place
    stem = fn.removesuffix(".conda").removesuffix(".tar.bz2")
    record = {
        "name": package.name,
        "version": package.version,
        "build": package.build or stem.rpartition("-")[2],
        "subdir": subdir,
        "channel": channel,
        "url": package.url,
        "fn": fn,
        **msgspec.to_builtins(package.hash),
    }
    # Without it, the engine reads in the package itself on what it depends.
    if package.dependencies is not UNSET:
        record["depends"] = depends(package.dependencies)
    return record


def depends(dependencies: Mapping[str, str]) -> list[str]:
    """Constraints by name as repodata writes them."""
    return [f"{name} {constraint}".strip() for name, constraint in dependencies.items()]


def _to_pip(package: Package) -> Record:
    return {
        "name": package.name,
        "version": package.version,
        "url": package.url,
        "hash": msgspec.to_builtins(package.hash),
    }


def completed(lockfile: Lockfile, records: Iterable[Record]) -> Lockfile:
    """The lockfile with what it lacks of checksums and dependencies, as the records have it."""
    by_url = {record["url"]: record for record in records}
    return msgspec.structs.replace(
        lockfile,
        package=[_completed(package, by_url.get(package.url)) for package in lockfile.package],
    )


def _completed(package: Package, record: Record | None) -> Package:
    if record is None or package.manager != "conda":
        return package
    given = package.hash
    known = package.dependencies
    return msgspec.structs.replace(
        package,
        hash=Hash(md5=given.md5 or record.get("md5"), sha256=given.sha256 or record.get("sha256")),
        dependencies=dependencies(record.get("depends") or ()) if known is UNSET else known,
    )
