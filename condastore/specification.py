"""Specifications: what an environment should hold, as its users write it (rest-api §8.2, §9)."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from condastore.lockfiles.conda_lock import Lockfile
from condastore.names import Name

# A stored form is hashed in pieces, of which a package of a lockfile is one.
_SLICED = 3


class PipBlock(msgspec.Struct, frozen=True):
    """The `pip:` entry among the dependencies."""

    pip: tuple[str, ...]


class CondaSpecification(msgspec.Struct, frozen=True):
    """An environment.yaml that was checked (rest-api §9.2)."""

    name: Name
    channels: tuple[str, ...] = ()
    dependencies: tuple[str | PipBlock, ...] = ()
    description: str | None = ""
    prefix: str | None = None
    variables: dict[str, str | int] | None = None
    exclude_newer: str | None = None
    """A day, YYYY-MM-DD: only packages from before it count. Only images on demand have one."""

    @property
    def match_specs(self) -> list[str]:
        """The dependencies on conda packages."""
        return [entry for entry in self.dependencies if isinstance(entry, str)]

    @property
    def requirements(self) -> list[str]:
        """The entries of all pip blocks."""
        blocks = (entry for entry in self.dependencies if isinstance(entry, PipBlock))
        return [entry for block in blocks for entry in block.pip]

    @property
    def sha256(self) -> str:
        """The canonical hash, which does not depend on the order of channels or dependencies."""
        return canonical_hash(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The stored form; what the contract does not know is in it only if it is set."""
        cutoff = {} if self.exclude_newer is None else {"exclude_newer": self.exclude_newer}
        return {
            **cutoff,
            "channels": list(self.channels),
            "dependencies": [
                entry if isinstance(entry, str) else {"pip": list(entry.pip)}
                for entry in self.dependencies
            ],
            "description": self.description,
            "name": self.name,
            "prefix": self.prefix,
            "variables": self.variables,
        }


class LockfileSpecification(msgspec.Struct, frozen=True):
    """A lockfile that a user posted; it is installed as it is (rest-api §9.5)."""

    name: Name
    lockfile: Lockfile
    description: str | None = ""
    is_partial: bool = False
    """Whether it came in a form that says less than conda-lock's; a build fills in the rest."""

    @property
    def sha256(self) -> str:
        """The canonical hash."""
        return canonical_hash(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """The stored form."""
        stored = {
            "name": self.name,
            "description": self.description,
            "lockfile": self.lockfile.as_dict(),
        }
        return {**stored, "is_partial": True} if self.is_partial else stored


Specification = CondaSpecification | LockfileSpecification


def from_stored(stored: dict[str, Any], *, is_lockfile: bool) -> Specification:
    """A specification from its stored form, which was checked when it came."""
    if is_lockfile:
        return msgspec.convert(stored, LockfileSpecification)
    return msgspec.convert(stored, CondaSpecification)


def canonical_hash(stored: dict[str, Any]) -> str:
    """The sha256 of a stored form, recursively sorted (rest-api §8.2)."""
    digest = hashlib.sha256()
    for text in _json(_sorted(stored), _SLICED):
        digest.update(text.encode())
    return digest.hexdigest()


def _json(value: Any, levels: int) -> Iterator[str]:
    """Yields what `json.dumps` returns; a call of it for all would let no other thread run."""
    if levels == 0 or not value or not isinstance(value, dict | list):
        yield json.dumps(value)
        return
    is_mapping = isinstance(value, dict)
    separator = "{" if is_mapping else "["
    for member in value:
        yield f"{separator}{json.dumps(member)}: " if is_mapping else separator
        yield from _json(value[member] if is_mapping else member, levels - 1)
        separator = ", "
    yield "}" if is_mapping else "]"


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(member) for member in sorted(value, key=_sort_key)]
    return value


def _sort_key(value: Any) -> str:
    """Containers of one type share a key and so keep their order."""
    if isinstance(value, dict | list):
        return str(type(value))
    return f"{type(value)}-{value}"
