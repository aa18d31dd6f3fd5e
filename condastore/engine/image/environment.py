"""The last layer: what belongs to the environment as a whole and to no package of conda."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from condastore.engine.image.clobbers import Members, installation_order, restored
from condastore.engine.image.compilation import compiled, is_module
from condastore.engine.image.entries import Entry, text
from condastore.engine.image.layer import Target, restored_entries
from condastore.engine.image.layout import Layout
from condastore.engine.image.metadata import history
from condastore.engine.image.packages import Package
from condastore.engine.image.pip_packages import pip_entries
from condastore.engine.records import distribution

ACTIVATION = "etc/condastore/activate.sh"
_ACTIVATE_D = "etc/conda/activate.d/"
_SHELL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ACTIVATE = """\
# Makes a shell use this environment, as `conda activate` does.
export CONDA_PREFIX={prefix}
export CONDA_DEFAULT_ENV={prefix}
export CONDA_SHLVL=1
case ":$PATH:" in
    *:{prefix}/bin:*) ;;
    *) export PATH={prefix}/bin:"$PATH" ;;
esac
{variables}for script in {prefix}/etc/conda/activate.d/*.sh; do
    if [ -r "$script" ]; then
        . "$script"
    fi
done
unset script
"""


def environment_entries(
    layers: Sequence[Sequence[Package]],
    members: Mapping[str, Members],
    target: Target,
    variables: Mapping[str, str],
    pip: Mapping[str, Any] | None,
    scratch: Path,
) -> dict[str, Entry]:
    """The entries of the last layer, by path."""
    layout = target.layout
    packages = [package for layer in layers for package in layer]
    records = [package.record for package in packages]
    entries = [history(records, layout), *_activation(layout, variables)]
    if variables:
        state = json.dumps({"version": 1, "env_vars": dict(variables)}, sort_keys=True)
        entries.append(text(layout.path("conda-meta/state"), state))
    if pip is not None:
        entries += _pip(pip, layout, scratch / "pip")
    found = {entry.path: entry for entry in entries}
    by_name = {distribution(package.record): package for package in packages}
    order = installation_order(records)
    for number, (name, paths) in enumerate(restored(layers, members, order).items()):
        folder = scratch / str(number)
        folder.mkdir()
        found.update(restored_entries(by_name[name], paths, layout, folder))
    return found


def activates(members: Mapping[str, Members], layout: Layout) -> bool:
    """Whether packages have scripts for shells that use the environment."""
    folder = layout.path(_ACTIVATE_D)
    return any(
        path.startswith(folder) and path.endswith(".sh")
        for each in members.values()
        for path in each
    )


def _activation(layout: Layout, variables: Mapping[str, str]) -> list[Entry]:
    exports = "".join(
        f"export {name}={quote(value)}\n" for name, value in sorted(variables.items())
    )
    script = _ACTIVATE.format(prefix=layout.prefix, variables=exports)
    return [
        text(layout.path(ACTIVATION), script),
        text("etc/profile.d/condastore.sh", f". {layout.prefix}/{ACTIVATION}\n"),
    ]


def _pip(pip: Mapping[str, Any], layout: Layout, scratch: Path) -> list[Entry]:
    entries = pip_entries(Path(pip["prefix"]), pip["names"], layout)
    scratch.mkdir()
    python = layout.python
    if python is None:
        return entries
    modules = [entry for entry in entries if is_module(entry.path, python, layout.path(""))]
    return entries + compiled(modules, python, scratch)
