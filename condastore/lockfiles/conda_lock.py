"""conda-lock v1 lockfiles: what a solve found, or what a user posted (rest-api §9.5).

Fields stand in the order in which conda-lock writes them. Optional ones that were not given are
left out again, so a downloaded lockfile that is posted back yields the same bytes.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NamedTuple, TypeVar
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Meta, UnsetType

from condastore import documents
from condastore.channels import SUBDIRS, check_url, has_credentials
from condastore.errors import InvalidSpecification
from condastore.names import shorten

LIMITS = documents.Limits(size_bytes=32 * 2**20, nodes=2_000_000)

T = TypeVar("T")

_Text = Annotated[str, Meta(min_length=1, max_length=2048)]
Md5 = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{32}\Z")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f]{64}\Z")]

# conda-lock installs these categories unless it is asked for others.
_INSTALLED_CATEGORIES = frozenset({"main", "dev"})
_ARCHIVE_SUFFIXES = (".conda", ".tar.bz2")
_FILE_NAME = re.compile(
    r"(?P<name>[A-Za-z0-9_.-]+)-(?P<version>[A-Za-z0-9_.!+]+)-(?P<build>[A-Za-z0-9_.+]+)"
    r"(?:\.conda|\.tar\.bz2)"
)


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An object of the schema; a null for an optional field is the same as none."""


class Hash(_Strict, frozen=True):
    """The checksums of a file."""

    md5: Md5 | None = None
    sha256: Sha256 | None = None


class Source(_Strict, frozen=True):
    """Where a pip package that is not from an index comes from."""

    type: Literal["url"]
    url: _Text


class Package(_Strict, frozen=True, kw_only=True):
    """A package on one platform."""

    name: _Text
    version: _Text
    manager: Literal["conda", "pip"]
    platform: _Text
    dependencies: dict[str, str] | UnsetType = UNSET
    url: _Text
    hash: Hash
    source: Source | None = None
    build: str | None = None
    category: str | UnsetType = UNSET
    optional: bool

    @property
    def is_installed(self) -> bool:
        """Whether it is installed when nobody asks for other categories."""
        return self.category is UNSET or self.category in _INSTALLED_CATEGORIES

    @property
    def place(self) -> "Place":
        """Where a conda package is."""
        return place_of(self.url)


class Place(NamedTuple):
    """What the URL of a conda package says: those of its channel and subdir, and its file name."""

    channel: str
    subdir: str
    file_name: str


class Channel(_Strict, frozen=True):
    """A channel that the solve used."""

    url: _Text
    used_env_vars: list[str]


class TimeMetadata(_Strict, frozen=True):
    """When the lockfile was made."""

    created_at: str


class GitMetadata(_Strict, frozen=True):
    """From which commit the lockfile was made."""

    git_user_name: str | None = None
    git_user_email: str | None = None
    git_sha: str | None = None


class InputMetadata(_Strict, frozen=True):
    """The checksums of a file that the lockfile was made from."""

    md5: str | None = None
    sha256: str | None = None


class Metadata(_Strict, frozen=True):
    """What the lockfile says about itself."""

    content_hash: dict[str, str]
    channels: list[Channel]
    platforms: list[str]
    sources: list[str]
    time_metadata: TimeMetadata | None = None
    git_metadata: GitMetadata | None = None
    inputs_metadata: dict[str, InputMetadata] | None = None
    custom_metadata: dict[str, str] | None = None


class Lockfile(_Strict, frozen=True, kw_only=True):
    """A unified lockfile: the packages of all its platforms."""

    version: Literal[1] | None = None
    metadata: Metadata
    package: list[Package]

    def as_dict(self) -> dict[str, Any]:
        """The plain values, in conda-lock's order."""
        return {
            "version": 1,
            "metadata": msgspec.to_builtins(self.metadata),
            "package": [msgspec.to_builtins(package) for package in self.package],
        }

    @property
    def platforms(self) -> list[str]:
        """The platforms that it says anything about, sorted."""
        return sorted({*self.metadata.platforms, *(package.platform for package in self.package)})

    def installed(self, platform: str) -> list[Package]:
        """What to install on a platform; a package that stands in two categories is taken once."""
        wanted = {
            (package.manager, package.name): package
            for package in self.package
            if package.platform == platform and package.is_installed
        }
        return list(wanted.values())


# Packages are read one by one: a single call for all would let no other thread run meanwhile.


class _Posted(_Strict, frozen=True, kw_only=True):
    """A lockfile with its packages as plain values."""

    version: Literal[1] | None = None
    metadata: Metadata
    package: list[Any]


class _Stored(msgspec.Struct):
    """An artifact with its packages as text."""

    metadata: Metadata
    package: list[msgspec.Raw]


_PACKAGE = msgspec.json.Decoder(Package)


def parse(text: str, limits: documents.Limits = LIMITS) -> Lockfile:
    """The lockfile in a JSON or YAML text, or `InvalidSpecification` with the reason."""
    return from_value(documents.load(text, limits))


def from_value(value: object) -> Lockfile:
    """The lockfile in plain values, or `InvalidSpecification` with the reason."""
    posted = converted(value, _Posted)
    lockfile = Lockfile(
        version=posted.version,
        metadata=posted.metadata,
        package=[
            converted(package, Package, f"package[{index}]: ")
            for index, package in enumerate(posted.package)
        ],
    )
    refuse_secrets(lockfile)
    for package in lockfile.package:
        if package.manager == "conda":
            _check_conda(package)
    return lockfile


def converted(value: object, kind: type[T], place: str = "") -> T:
    """Plain values as a struct, or `InvalidSpecification` with the place of what is wrong."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise InvalidSpecification(f"1 validation error for Lockfile\n  {place}{error}") from None


def refuse_secrets(lockfile: Lockfile) -> None:
    """Refuses a lockfile with credentials in one of its URLs."""
    urls = [*(channel.url for channel in lockfile.metadata.channels)]
    urls += (package.url for package in lockfile.package)
    urls += (package.source.url for package in lockfile.package if package.source)
    if any(map(has_credentials, urls)):
        raise InvalidSpecification(
            "A URL in the lockfile contains credentials; leave them out and set them in"
            " CondaStore.channel_credentials"
        )


def _check_conda(package: Package) -> None:
    name = shorten(package.name)
    if package.hash.md5 is None:
        raise InvalidSpecification(f"Package {name}: conda package hashes must use MD5")
    check_url(package.url)
    if not package.url.endswith(_ARCHIVE_SUFFIXES):
        raise InvalidSpecification(
            f"Package {name}: its URL should end with one of {', '.join(_ARCHIVE_SUFFIXES)}"
        )


def to_json_text(lockfile: Lockfile) -> str:
    """The lockfile artifact: JSON, although its key ends in `.yml` (rest-api §4.6)."""
    return json.dumps(lockfile.as_dict(), indent=4)


def from_json_text(text: bytes) -> Lockfile:
    """The lockfile in an artifact, which was checked when it was made."""
    stored = msgspec.json.decode(text, type=_Stored)
    packages = [_PACKAGE.decode(package) for package in stored.package]
    return Lockfile(version=1, metadata=stored.metadata, package=packages)


def check_platform(lockfile: Lockfile, platform: str) -> None:
    """Refuses a lockfile that says nothing about this server's platform."""
    if platform not in lockfile.platforms:
        raise InvalidSpecification(
            f"The lockfile is not for this server's platform {platform}, but for "
            f"{shorten(', '.join(lockfile.platforms)) or 'none'}"
        )


def place_of(url: str) -> Place:
    """What the URL of a conda package says."""
    directory, _, file_name = url.rpartition("/")
    channel, _, subdir = directory.rpartition("/")
    return Place(channel, subdir, unquote(file_name))


def conda_package(
    url: str, platform: str, checksum: Hash, dependencies: dict[str, str] | UnsetType = UNSET
) -> Package:
    """The package at a URL, which gives its name and version; `InvalidSpecification` if not."""
    check_url(url)
    place = place_of(url)
    match = _FILE_NAME.fullmatch(place.file_name)
    if match is None:
        raise InvalidSpecification(
            f"URL {shorten(url)!r} should end with NAME-VERSION-BUILD.conda or .tar.bz2"
        )
    if place.subdir not in SUBDIRS:
        raise InvalidSpecification(
            f"URL {shorten(url)!r} should have a platform such as linux-64 or noarch"
            " before its file name"
        )
    if place.subdir not in (platform, "noarch"):
        raise InvalidSpecification(
            f"URL {shorten(url)!r} is of a package for {place.subdir}, not for {platform}"
        )
    return Package(
        name=match["name"],
        version=match["version"],
        manager="conda",
        platform=platform,
        dependencies=dependencies,
        url=url,
        hash=checksum,
        category="main",
        optional=False,
    )


def pip_package(
    name: str,
    version: str,
    platform: str,
    url: str,
    checksum: Hash,
    dependencies: dict[str, str] | UnsetType = UNSET,
) -> Package:
    """A package that pip installs from a URL."""
    return Package(
        name=name,
        version=version,
        manager="pip",
        platform=platform,
        dependencies=dependencies,
        url=url,
        hash=checksum,
        category="main",
        optional=False,
    )


def of_packages(
    packages: Iterable[Package], platforms: Iterable[str], channels: Iterable[str]
) -> Lockfile:
    """A lockfile of packages, in conda-lock's order; `InvalidSpecification` for credentials."""
    found = sorted(packages, key=alphabetically)
    content = {platform: hashlib.sha256() for platform in sorted(platforms)}
    for package in found:
        content[package.platform].update(f"{package.url} {package.hash}\n".encode())
    lockfile = Lockfile(
        version=1,
        metadata=metadata({key: value.hexdigest() for key, value in content.items()}, channels),
        package=found,
    )
    refuse_secrets(lockfile)
    return lockfile


def metadata(content_hash: dict[str, str], channels: Iterable[str]) -> Metadata:
    """What a lockfile that is made here says about itself; the hashes are by platform."""
    return Metadata(
        content_hash=content_hash,
        channels=[Channel(url=url, used_env_vars=[]) for url in channels],
        platforms=sorted(content_hash),
        sources=[],
    )


def alphabetically(package: Package) -> tuple[str, ...]:
    """The order of conda-lock, as a sort key."""
    return package.manager, package.name, package.platform
