"""The lockfiles of pixi and rattler: read in versions 6 and 7, written in version 6.

All versions of pixi since 2024 read version 6, and so does conda's own reader of lockfiles.
"""

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import msgspec
from packaging.utils import canonicalize_name

from condastore import yaml_text
from condastore.channels import check_subdir, check_url, shown
from condastore.errors import InvalidSpecification
from condastore.lockfiles.conda_lock import (
    Hash,
    Lockfile,
    Md5,
    Package,
    Sha256,
    conda_package,
    converted,
    of_packages,
    pip_package,
)
from condastore.lockfiles.records import dependencies, depends, requirements
from condastore.names import shorten

VERSIONS = (6, 7)
WRITTEN = 6
ENVIRONMENT = "default"


class _Key(NamedTuple):
    """What a package is known by: `conda` or `pypi`, and where it is."""

    kind: str
    location: str


class _Location(msgspec.Struct):
    """An object that is about one package; what has neither is not made yet."""

    conda: str | None = None
    pypi: str | None = None

    def key(self, place: str) -> _Key:
        """Returns what the package is known by."""
        if self.conda is not None:
            return _Key("conda", self.conda)
        if self.pypi is not None:
            return _Key("pypi", self.pypi)
        raise InvalidSpecification(
            f"{place} is neither a conda package nor one from PyPI; sources are not supported"
        )


class _Package(_Location):
    """A package; of its many fields those that an installation needs."""

    sha256: Sha256 | None = None
    md5: Md5 | None = None
    depends: list[str] = []
    name: str | None = None
    version: str | None = None
    requires_dist: list[str] = []


class _Channel(msgspec.Struct):
    url: str


class _Platform(msgspec.Struct):
    name: str
    subdir: str | None = None


class _Environment(msgspec.Struct):
    packages: dict[str, list[_Location]]
    channels: list[_Channel] = []


class _Document(msgspec.Struct):
    environments: dict[str, _Environment]
    packages: list[Any]
    platforms: list[_Platform] = []


def is_pixi(value: object) -> bool:
    """Whether plain values look like a lockfile of pixi."""
    return isinstance(value, dict) and "environments" in value and "packages" in value


def from_value(value: dict[str, Any]) -> Lockfile:
    """The lockfile that the default environment is, or `InvalidSpecification` with the reason."""
    if value.get("version") not in VERSIONS:
        version = shorten(str(value.get("version")))
        raise InvalidSpecification(
            f"The version of a lockfile of pixi should be 6 or 7, not {version}"
        )
    document = converted(value, _Document)
    environment = document.environments.get(ENVIRONMENT)
    if environment is None:
        names = ", ".join(document.environments) or "none"
        raise InvalidSpecification(
            f"The lockfile should have the environment {ENVIRONMENT!r}; it has {shorten(names)}"
        )
    subdirs = {platform.name: platform.subdir or platform.name for platform in document.platforms}
    platforms = {name: subdirs.get(name, name) for name in environment.packages}
    for platform in platforms.values():
        check_subdir(platform)
    if len(set(platforms.values())) < len(platforms):
        raise InvalidSpecification(
            f"Environment {ENVIRONMENT!r} should have each platform once; it has "
            f"{shorten(', '.join(platforms.values()))}"
        )
    packages = _packages(document, environment, platforms)
    channels = [channel.url.rstrip("/") for channel in environment.channels]
    return of_packages(packages, platforms.values(), channels)


def _packages(
    document: _Document, environment: _Environment, platforms: dict[str, str]
) -> Iterator[Package]:
    known = {}
    for index, value in enumerate(document.packages):
        package = converted(value, _Package, f"packages[{index}]: ")
        known[package.key(f"packages[{index}]")] = index, package
    for name, references in environment.packages.items():
        for index, reference in enumerate(references):
            place = f"environments.{ENVIRONMENT}.packages.{name}[{index}]"
            key = reference.key(place)
            if key not in known:
                raise InvalidSpecification(f"{place}: packages has no {shown(key.location)}")
            number, package = known[key]
            try:
                yield _package(package, key, platforms[name])
            except InvalidSpecification as error:
                raise InvalidSpecification(f"packages[{number}]: {error}") from None


def _package(package: _Package, key: _Key, platform: str) -> Package:
    checksum = Hash(md5=package.md5, sha256=package.sha256)
    if key.kind == "conda":
        if not (checksum.md5 or checksum.sha256):
            raise InvalidSpecification("a conda package should have a sha256 or an md5")
        needed = dependencies(package.depends)
        return conda_package(_url(key.location), platform, checksum, needed)
    if not (package.name and package.version and checksum.sha256):
        raise InvalidSpecification("a package from PyPI should have a name, a version, a sha256")
    url = _url(key.location.partition("#")[0])
    check_url(url)
    return pip_package(
        canonicalize_name(package.name),
        package.version,
        platform,
        url,
        checksum,
        requirements(package.requires_dist),
    )


def _url(location: str) -> str:
    """The URL of a location, which is a path where the URL would begin with `file:`."""
    if location.startswith("/"):
        return PurePosixPath(location).as_uri()
    if "://" not in location:
        raise InvalidSpecification(f"{shorten(location)!r} should be a URL or an absolute path")
    return location


def render(lockfile: Lockfile) -> str:
    """The text of a `pixi.lock` with the packages of all platforms."""
    installed = {platform: lockfile.installed(platform) for platform in lockfile.platforms}
    packages = {package.url: package for found in installed.values() for package in found}
    environment = {
        "channels": [{"url": f"{url}/"} for url in _channels(lockfile, packages.values())],
        "packages": {
            platform: [_reference(package) for package in found]
            for platform, found in installed.items()
        },
    }
    document = {
        "version": WRITTEN,
        "environments": {ENVIRONMENT: environment},
        "packages": [_described(package) for package in packages.values()],
    }
    return yaml_text.dump(document)


def _channels(lockfile: Lockfile, packages: Iterable[Package]) -> list[str]:
    """The channels' URLs; where the lockfile has but their names, those of the packages."""
    urls = [channel.url for channel in lockfile.metadata.channels]
    if not all("://" in url for url in urls):
        urls = [package.place.channel for package in packages if package.manager == "conda"]
    return list(dict.fromkeys(url.rstrip("/") for url in urls))


def _reference(package: Package) -> dict[str, str]:
    return {"conda" if package.manager == "conda" else "pypi": package.url}


def _described(package: Package) -> dict[str, Any]:
    needed = package.dependencies or {}
    described: dict[str, Any] = _reference(package)
    if package.manager == "pip":
        described |= {"name": package.name, "version": package.version}
    elif package.url.startswith("file:"):
        # Elsewhere readers take them from the URL.
        described |= {"subdir": package.place.subdir, "channel": f"{package.place.channel}/"}
    described |= msgspec.to_builtins(package.hash)
    if needed and package.manager == "conda":
        described["depends"] = depends(needed)
    elif needed:
        described["requires_dist"] = [
            name if constraint == "*" else f"{name} {constraint}"
            for name, constraint in needed.items()
        ]
    return described
