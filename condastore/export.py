"""The environment.yaml of what was installed, all pinned, as `conda env export` writes it."""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Any

import yaml

from condastore.lockfile import Record


def export_yaml(
    name: str,
    channels: Iterable[str],
    records: Iterable[Record],
    pip: Iterable[Record],
    *,
    prefix: str,
    variables: Mapping[str, str | int] | None = None,
) -> str:
    """The YAML artifact of a build (rest-api §4.6)."""
    by_name = itemgetter("name")
    dependencies: list[Any] = [
        f"{record['name']}={record['version']}={record['build']}"
        for record in sorted(records, key=by_name)
    ]
    pinned = [f"{entry['name']}=={entry['version']}" for entry in sorted(pip, key=by_name)]
    if pinned:
        dependencies.append({"pip": pinned})
    document: dict[str, Any] = {
        "name": name,
        "channels": list(channels),
        "dependencies": dependencies,
    }
    if variables:
        document["variables"] = {key: str(value) for key, value in variables.items()}
    document["prefix"] = prefix
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=2**31)
    return text
