"""Explicit files: a line for each package, as `conda create --file` installs them without a solve.

The checksum behind `#` is an md5, which every conda, mamba and micromamba takes, or where there is
none a bare sha256, which conda takes since 24.9 and mamba since 2.1. Packages of pip stand in
comments as conda-lock writes them: `conda-lock install` and micromamba install these too.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import unquote

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)

from condastore import documents
from condastore.channels import SUBDIRS, check_subdir, check_url
from condastore.errors import InvalidSpecification
from condastore.lockfiles.conda_lock import (
    Hash,
    Lockfile,
    Package,
    conda_package,
    of_packages,
    pip_package,
    place_of,
)
from condastore.names import shorten

MARK = "@EXPLICIT"

_PLATFORM = re.compile(r"#\s*platform:\s*(\S+)")
_PIP = "# pip "
_PIP_LINE = re.compile(r"# pip (?P<name>[A-Za-z0-9._-]+) @ (?P<url>[^#\s]+)#sha256=(?P<hash>\S+)")
_MD5 = re.compile("(?:md5:)?([0-9a-f]{32})")
_SHA256 = re.compile("(?:sha256:)?([0-9a-f]{64})")


def is_explicit(text: str, limits: documents.Limits) -> bool:
    """Whether the first line that is no comment says that the text is an explicit file."""
    lines = documents.lines(text, limits)
    return next((line for line in lines if line and line[0] != "#"), "") == MARK


def parse(text: str, limits: documents.Limits, platform: str) -> Lockfile:
    """The lockfile that an explicit file is, or `InvalidSpecification` with the line.

    It is for one platform: `platform`, unless a comment or a package says another. It does not
    say on what packages depend.
    """
    lines = [(number, line) for number, line in enumerate(documents.lines(text, limits), 1) if line]
    platform = _platform(lines) or platform
    packages: dict[tuple[str, str], Package] = {}
    for number, line in lines:
        with _at(number):
            package = _package(line, platform)
            if package is None:
                continue
            key = package.manager, package.name
            if key in packages:
                raise InvalidSpecification(f"there is a second package {shorten(package.name)}")
            packages[key] = package
    found = packages.values()
    channels = dict.fromkeys(p.place.channel for p in found if p.manager == "conda")
    return of_packages(found, [platform], channels)


@contextmanager
def _at(number: int) -> Iterator[None]:
    """Puts the number of its line before what is wrong."""
    try:
        yield
    except InvalidSpecification as error:
        raise InvalidSpecification(f"line {number}: {error}") from None


def _platform(lines: Sequence[tuple[int, str]]) -> str | None:
    """The platform that a comment names, or else the first package that is for one."""
    for number, line in lines:
        match = _PLATFORM.fullmatch(line)
        if match:
            with _at(number):
                check_subdir(match[1])
            return match[1]
    subdirs = (place_of(line).subdir for _, line in lines if not line.startswith("#"))
    return next((subdir for subdir in subdirs if subdir in SUBDIRS - {"noarch"}), None)


def _package(line: str, platform: str) -> Package | None:
    """The package in a line; None for one that has none."""
    if line.startswith(_PIP):
        return _pip_package(line, platform)
    if line.startswith("#") or line == MARK:
        return None
    url, _, checksum = line.partition("#")
    md5, sha256 = (pattern.fullmatch(checksum.lower()) for pattern in (_MD5, _SHA256))
    check_url(url)
    if not (md5 or sha256):
        raise InvalidSpecification("a package's URL should be followed by #MD5 or #SHA256")
    return conda_package(url, platform, Hash(md5=md5 and md5[1], sha256=sha256 and sha256[1]))


def _pip_package(line: str, platform: str) -> Package:
    match = _PIP_LINE.fullmatch(line)
    sha256 = match and _SHA256.fullmatch(match["hash"].lower())
    if not (match and sha256):
        raise InvalidSpecification("a package of pip should be # pip NAME @ URL#sha256=HASH")
    name = canonicalize_name(match["name"])
    return pip_package(name, _version(match["url"]), platform, match["url"], Hash(sha256=sha256[1]))


def _version(url: str) -> str:
    """The version in the name of the file that pip installs."""
    check_url(url)
    file_name = unquote(url.rpartition("/")[2])
    try:
        if file_name.endswith(".whl"):
            parse_wheel_filename(file_name)
            return file_name.split("-")[1]
        parse_sdist_filename(file_name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        raise InvalidSpecification(
            f"URL {shorten(url)!r} should end with the name of a wheel or a source distribution"
        ) from None
    return file_name.removesuffix(".zip").removesuffix(".tar.gz").rpartition("-")[2]


def render(lockfile: Lockfile, platform: str) -> str:
    """The explicit file of one platform of a lockfile."""
    packages = lockfile.installed(platform)
    conda = _ordered([package for package in packages if package.manager == "conda"])
    pip = [package for package in packages if package.manager == "pip"]
    lines = [
        "# This file may be used to create an environment using:",
        "# $ conda create --name <env> --file <this file>",
        f"# platform: {platform}",
        MARK,
        *(f"{package.url}#{package.hash.md5 or package.hash.sha256}" for package in conda),
    ]
    if pip:
        lines.append("# What follows is for pip: conda-lock and micromamba install it, conda not.")
        lines += (_pip_line(package) for package in pip)
    return "\n".join([*lines, ""])


def _pip_line(package: Package) -> str:
    url = package.source.url if package.source else package.url
    checksum = f"#sha256={package.hash.sha256}" if package.hash.sha256 else ""
    # A text that breaks the line would begin another package.
    return " ".join(f"# pip {package.name} @ {url.partition('#')[0]}{checksum}".split())


def _ordered(packages: Sequence[Package]) -> list[Package]:
    """The packages with what each depends on before it, since some tools link them as they come."""
    by_name = {package.name: package for package in packages}
    entered: set[str] = set()
    ordered = []
    for package in packages:
        # Packages that wait for what they depend on, with the names that are still to be seen.
        waiting = [] if package.name in entered else [(package, iter(package.dependencies or ()))]
        entered.add(package.name)
        while waiting:
            _, names = waiting[-1]
            name = next((name for name in names if name in by_name and name not in entered), None)
            if name is None:
                ordered.append(waiting.pop()[0])
            else:
                entered.add(name)
                waiting.append((by_name[name], iter(by_name[name].dependencies or ())))
    return ordered
