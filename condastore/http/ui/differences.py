"""What differs between two lists of packages, and why each package is there; pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from condastore.errors import InvalidSpecification
from condastore.matchspecs import check_match_spec
from condastore.requirements import check_requirement


class Packaged(Protocol):
    """What is compared of a package."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def build(self) -> str: ...


@dataclass(frozen=True)
class Change:
    """A package that is not the same on both sides; absent on one is None there."""

    name: str
    old: str | None
    new: str | None
    is_asked_for: bool
    """Whether a specification names it; else another package needs it."""


@dataclass(frozen=True)
class Difference:
    """All changes, by name; `same` packages are equal on both sides."""

    added: list[Change]
    removed: list[Change]
    changed: list[Change]
    same: int

    @property
    def is_empty(self) -> bool:
        """Whether both sides have the same packages."""
        return not (self.added or self.removed or self.changed)


def compare(
    old: Iterable[Packaged],
    new: Iterable[Packaged],
    asked_old: frozenset[str],
    asked_new: frozenset[str],
) -> Difference:
    """Returns what has to change to come from `old` to `new`."""
    before = {package.name: package for package in old}
    after = {package.name: package for package in new}
    added, removed, changed, same = [], [], [], 0
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name), after.get(name)
        if other is None:
            assert one is not None
            removed.append(Change(name, one.version, None, name in asked_old))
        elif one is None:
            added.append(Change(name, None, other.version, name in asked_new))
        elif (one.version, one.build) == (other.version, other.build):
            same += 1
        else:
            with_builds = one.version == other.version
            changed.append(
                Change(name, _text(one, with_builds), _text(other, with_builds), name in asked_new)
            )
    return Difference(added, removed, changed, same)


def _text(package: Packaged, with_build: bool) -> str:
    return f"{package.version} {package.build}" if with_build else package.version


def asked_for(specification: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names of the conda packages that a stored specification names."""
    names = set()
    for entry in conda_requirements(specification):
        try:
            names.add(check_match_spec(entry))
        except InvalidSpecification:
            # What an older version let pass.
            continue
    return frozenset(names)


def conda_requirements(specification: Mapping[str, Any]) -> list[str]:
    """Returns the match specs of a stored specification."""
    return [entry for entry in specification.get("dependencies", []) if isinstance(entry, str)]


def pip_requirements(specification: Mapping[str, Any]) -> list[str]:
    """Returns what a stored specification wants of pip."""
    blocks = (entry for entry in specification.get("dependencies", []) if isinstance(entry, dict))
    return [str(text) for block in blocks for text in block.get("pip", [])]


def asked_of_pip(specification: Mapping[str, Any]) -> frozenset[str]:
    """Returns the names of the packages that a stored specification wants of pip."""
    names = set()
    for entry in pip_requirements(specification):
        try:
            names.add(check_requirement(entry))
        except InvalidSpecification:
            continue
    return frozenset(names)


class Needing(Packaged, Protocol):
    """A package that says what it needs."""

    @property
    def depends(self) -> Sequence[str]: ...


def needed_by(packages: Iterable[Needing]) -> dict[str, list[str]]:
    """Returns for each package the names of those that need it, in order."""
    found: dict[str, list[str]] = {}
    for package in packages:
        for name in dict.fromkeys(map(dependency_name, package.depends or ())):
            if name != package.name:
                found.setdefault(name, []).append(package.name)
    return {name: sorted(users) for name, users in found.items()}


def dependency_name(dependency: str) -> str:
    """Returns the name in an entry of a package's `depends`."""
    words = dependency.rpartition("::")[2].split(maxsplit=1)
    name = words[0] if words else ""
    for index, character in enumerate(name):
        if character in "=<>!~[;":
            return name[:index].lower()
    return name.lower()


def ways(packages: Iterable[Needing], asked: frozenset[str]) -> dict[str, list[str]]:
    """Returns for each package that was not asked for the shortest way to it, from one that was.

    A way ends before the package; what nothing that was asked for needs has none.
    """
    needs = {
        package.name: [dependency_name(text) for text in package.depends or ()]
        for package in packages
    }
    found: dict[str, list[str]] = {name: [] for name in sorted(asked & needs.keys())}
    waiting = list(found)
    for current in waiting:
        for name in needs[current]:
            if name in needs and name not in found:
                found[name] = [*found[current], current]
                waiting.append(name)
    return {name: way for name, way in found.items() if way}
