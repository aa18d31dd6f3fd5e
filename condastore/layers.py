"""Which layers an image has, and in which order: pure, and the same for the same lockfile.

Container engines know a layer by the chain of those below it. So the order is one for all images
of a server, and what most of them share is at the bottom.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from condastore.oci import canonical

Record = Mapping[str, Any]

# Part of every key: to be raised when the same package would become another layer.
FORMAT = 2
# Docker takes no more; podman mounts two more, and containerd hundreds.
MOST_LAYERS = 125
FURTHER_LAYERS = 20
"""What is left for a Dockerfile that begins with an image."""
# The libraries' and the environment's.
_OWN_LAYERS = 2
_LEAST_BUDGET = 2


@dataclass(frozen=True)
class Weight:
    """What is known of a package: in how many builds it is, and how many bytes it has."""

    popularity: int = 0
    size: int = 0


@dataclass(frozen=True)
class Writing:
    """How the layers of a server are written."""

    prefix: str
    codec: str
    level: int


def python_key(records: Sequence[Record], *, bytecode: bool) -> list[Any] | None:
    """Returns what a layer of Python modules depends on: the Python, and whether it compiles."""
    record = next((r for r in records if r["name"] == "python"), None)
    if record is None:
        return None
    minor = ".".join(str(record["version"]).split(".")[:2])
    # Such as `cp313t`, whose modules have a directory of their own.
    tag = str(record.get("build") or "").rpartition("_")[2]
    return [minor, tag, bytecode]


def layer_key(packages: Sequence[Record], python: list[Any] | None, writing: Writing) -> str:
    """Returns the key of the layer of some packages."""
    depends_on_python = any(record["subdir"] == "noarch" for record in packages)
    content = {
        "format": FORMAT,
        "packages": [[package_hash(record), public_url(record)] for record in packages],
        "python": python if depends_on_python else None,
        "prefix": writing.prefix,
        "codec": writing.codec,
        "level": writing.level,
    }
    return hashlib.sha256(canonical(content)).hexdigest()


def package_hash(record: Record) -> str:
    """Returns the best hash that is known of a package's file."""
    return str(record.get("sha256") or f"md5-{record['md5']}").lower()


def public_url(record: Record) -> str:
    """Returns where a package is from, without what only concerns the server's machine."""
    url = urlsplit(record["url"])
    if url.scheme == "file":
        return "/".join(url.path.rsplit("/", 3)[1:])
    return url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()


def package_layers(budget: int, base_layers: int) -> int:
    """Returns how many layers packages may have, of those that an operator wants, above a base."""
    room = MOST_LAYERS - FURTHER_LAYERS - _OWN_LAYERS - base_layers
    return max(_LEAST_BUDGET, min(budget, room))


def arranged(
    records: Sequence[Record], weights: Mapping[str, Weight], budget: int
) -> list[list[int]]:
    """Returns the layers from the bottom up, each as the indexes of its packages.

    There are at most `budget`; the least packages beyond that share the last. Packages that need
    Python come after those that don't, so that a newer Python leaves the latter alone.
    """
    with_python = _with_python(records)

    def place(index: int) -> tuple[Any, ...]:
        record = records[index]
        weight = weights.get(record["name"], Weight())
        return (
            record["name"] in with_python,
            -weight.popularity,
            -weight.size,
            record["name"],
            package_hash(record),
        )

    def worth(index: int) -> tuple[Any, ...]:
        record = records[index]
        weight = weights.get(record["name"], Weight())
        return -weight.size * (1 + weight.popularity), record["name"], package_hash(record)

    chosen = sorted(range(len(records)), key=worth)
    alone = chosen if len(chosen) <= budget else chosen[: budget - 1]
    layers = [[index] for index in sorted(alone, key=place)]
    rest = sorted(set(chosen) - set(alone), key=place)
    return [*layers, rest] if rest else layers


def _with_python(records: Sequence[Record]) -> set[str]:
    """Returns the names of Python and of all that needs it, if only through others."""
    needs = {
        record["name"]: {str(spec).split(" ")[0] for spec in record.get("depends") or ()}
        for record in records
    }
    found = {"python"}
    while added := {name for name, others in needs.items() if others & found} - found:
        found |= added
    return found
