"""conda-lock v1 lockfiles: what a solve found, or what a user posted (rest-api §9.5).

Fields stand in the order in which conda-lock writes them. Optional ones that were not given are
left out again, so a downloaded lockfile that is posted back yields the same bytes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import unquote

import msgspec
from msgspec import UNSET, Meta, UnsetType
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from condastore import documents
from condastore.channels import check_url, has_credentials
from condastore.errors import InvalidSpecification
from condastore.names import shorten

LIMITS = documents.Limits(size_bytes=32 * 2**20, nodes=2_000_000)

# A package as the engine knows it: with the keys of repodata.
Record = dict[str, Any]

_Text = Annotated[str, Meta(min_length=1, max_length=2048)]
_Md5 = Annotated[str, Meta(pattern="^[0-9A-Fa-f]{32}$")]
_Sha256 = Annotated[str, Meta(pattern="^[0-9A-Fa-f]{64}$")]

# conda-lock installs these categories unless it is asked for others.
_INSTALLED_CATEGORIES = frozenset({"main", "dev"})
_ARCHIVE_SUFFIXES = (".conda", ".tar.bz2")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An object of the schema; a null for an optional field is the same as none."""


class Hash(_Strict, frozen=True):
    """The checksums of a file."""

    md5: _Md5 | None = None
    sha256: _Sha256 | None = None


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
            "package": msgspec.to_builtins(self.package),
        }


class Locked(NamedTuple):
    """The packages of one platform, as a build job takes them."""

    records: list[Record]
    pip: list[Record]


def parse(text: str, limits: documents.Limits = LIMITS) -> Lockfile:
    """The lockfile in a JSON or YAML text, or `InvalidSpecification` with the reason."""
    value = documents.load(text, limits)
    try:
        lockfile = msgspec.convert(value, Lockfile)
    except msgspec.ValidationError as error:
        raise InvalidSpecification(f"1 validation error for Lockfile\n  {error}") from None
    _refuse_secrets(lockfile)
    for package in lockfile.package:
        if package.manager == "conda":
            _check_conda(package)
    return lockfile


def _refuse_secrets(lockfile: Lockfile) -> None:
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
        metadata=Metadata(
            content_hash=dict.fromkeys(packages, content_hash),
            channels=[Channel(url=url, used_env_vars=[]) for url in channels],
            platforms=sorted(packages),
            sources=[],
        ),
        package=sorted(locked, key=_alphabetically),
    )


def _alphabetically(package: Package) -> tuple[str, ...]:
    """The order of conda-lock."""
    return package.manager, package.name, package.platform


def _from_record(record: Record, platform: str) -> Package:
    return Package(
        name=record["name"],
        version=record["version"],
        manager="conda",
        platform=platform,
        dependencies=_dependencies(record["depends"]),
        url=record["url"],
        hash=Hash(md5=record.get("md5"), sha256=record.get("sha256")),
        category="main",
        optional=False,
    )


def _dependencies(depends: Iterable[str]) -> dict[str, str]:
    """Constraints by name, sorted; two on one name are joined, one with a build string last."""
    found: dict[str, str] = {}
    for entry in sorted(depends):
        name, _, constraint = entry.partition(" ")
        both = sorted(filter(None, (found.get(name), constraint)), key=lambda text: " " in text)
        found[name] = ",".join(both)
    return found


def _from_pip(entry: Record, platform: str) -> Package:
    return Package(
        name=entry["name"],
        version=entry["version"],
        manager="pip",
        platform=platform,
        dependencies=_requirements(entry.get("requires") or ()),
        url=entry["url"],
        hash=msgspec.convert(entry["hash"], Hash),
        category="main",
        optional=False,
    )


def _requirements(requires: Iterable[str]) -> dict[str, str]:
    """Constraints by name, sorted, of what a wheel requires without an extra."""
    found = {}
    for text in requires:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            # Old wheels say what no standard allows; they were installed all the same.
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            found[canonicalize_name(requirement.name)] = str(requirement.specifier) or "*"
    return dict(sorted(found.items()))


def check_platform(lockfile: Lockfile, platform: str) -> None:
    """Refuses a lockfile that says nothing about a platform."""
    platforms = {*lockfile.metadata.platforms, *(package.platform for package in lockfile.package)}
    if platform not in platforms:
        raise InvalidSpecification(
            f"The lockfile is not for this server's platform {platform}, but for "
            f"{shorten(', '.join(sorted(platforms))) or 'none'}"
        )


def locked_for(lockfile: Lockfile, platform: str) -> Locked:
    """What to install on a platform; a package that stands in two categories is taken once."""
    wanted = {
        (package.manager, package.name): package
        for package in lockfile.package
        if package.platform == platform
        and (package.category is UNSET or package.category in _INSTALLED_CATEGORIES)
    }
    return Locked(
        [_to_record(package) for package in wanted.values() if package.manager == "conda"],
        [_to_pip(package) for package in wanted.values() if package.manager == "pip"],
    )


def _to_record(package: Package) -> Record:
    """The keys of repodata that can be told from a lockfile."""
    directory, _, fn = package.url.rpartition("/")
    channel, _, subdir = directory.rpartition("/")
    fn = unquote(fn)
    stem = fn.removesuffix(".conda").removesuffix(".tar.bz2")
    depends = package.dependencies or {}
    return {
        "name": package.name,
        "version": package.version,
        "build": package.build or stem.rpartition("-")[2],
        "subdir": subdir,
        "channel": channel,
        "url": package.url,
        "fn": fn,
        "depends": [f"{name} {constraint}".strip() for name, constraint in depends.items()],
        **msgspec.to_builtins(package.hash),
    }


def _to_pip(package: Package) -> Record:
    return {
        "name": package.name,
        "version": package.version,
        "url": package.url,
        "hash": msgspec.to_builtins(package.hash),
    }


def explicit_text(platform: str, records: Sequence[Record]) -> str:
    """What `conda create --file` installs without solving."""
    lines = [f"{record['url']}#{record.get('md5') or record.get('sha256')}" for record in records]
    return "\n".join([f"#platform: {platform}", "@EXPLICIT", *lines, ""])
