"""The environment.yaml of a build: what was installed, more or less pinned, or asked for."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from operator import itemgetter
from typing import Any

from condastore import documents, yaml_text
from condastore.lockfiles.records import Record
from condastore.specification import CondaSpecification

# What is read is an artifact, which no user wrote.
_LIMITS = documents.Limits(size_bytes=2**30, nodes=10_000_000)


class Pinned(StrEnum):
    """How exactly an environment.yaml says what is installed."""

    EXACT = "exact"
    VERSIONS = "versions"
    HISTORY = "history"


def export_yaml(
    name: str,
    channels: Iterable[str],
    records: Iterable[Record],
    pip: Iterable[Record],
    *,
    prefix: str,
    variables: Mapping[str, str | int] | None = None,
) -> str:
    """The YAML artifact of a build, as `conda env export` writes it (rest-api §4.6)."""
    by_name = itemgetter("name")
    dependencies: list[Any] = [
        f"{record['name']}={record['version']}={record['build']}"
        for record in sorted(records, key=by_name)
    ]
    pinned = [f"{entry['name']}=={entry['version']}" for entry in sorted(pip, key=by_name)]
    document = _document(name, channels, dependencies, pinned, variables)
    return yaml_text.dump({**document, "prefix": prefix})


def versions_yaml(exported: str) -> str:
    """The YAML artifact without build strings and prefix: `conda env export --no-builds`."""
    document = documents.load(exported, _LIMITS)
    del document["prefix"]
    document["dependencies"] = [
        entry.rpartition("=")[0] if isinstance(entry, str) else entry
        for entry in document["dependencies"]
    ]
    return yaml_text.dump(document)


def history_yaml(specification: CondaSpecification) -> str:
    """What was asked for: `conda env export --from-history`, with the packages of pip besides."""
    return yaml_text.dump(
        _document(
            specification.name,
            specification.channels,
            specification.match_specs,
            specification.requirements,
            specification.variables,
        )
    )


def _document(
    name: str,
    channels: Iterable[str],
    dependencies: Iterable[str],
    pip: Iterable[str],
    variables: Mapping[str, str | int] | None,
) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": name,
        "channels": list(channels),
        "dependencies": list(dependencies),
    }
    if requirements := list(pip):
        document["dependencies"].append({"pip": requirements})
    if variables:
        document["variables"] = {key: str(value) for key, value in variables.items()}
    return document
