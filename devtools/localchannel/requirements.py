"""PEP 508 requirements as conda match specs."""

from __future__ import annotations

from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.specifiers import Specifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

# Projects whose conda package is known by another name than the normalised one.
_CONDA_NAMES = {
    "jupyter-client": "jupyter_client",
    "jupyter-core": "jupyter_core",
    "jupyter-events": "jupyter_events",
    "jupyter-server": "jupyter_server",
    "jupyter-server-terminals": "jupyter_server_terminals",
    "jupyterlab-pygments": "jupyterlab_pygments",
    "jupyterlab-server": "jupyterlab_server",
    "msgpack": "msgpack-python",
    "prometheus-client": "prometheus_client",
    "pure-eval": "pure_eval",
    "stack-data": "stack_data",
    "typing-extensions": "typing_extensions",
}


def conda_name(project: str) -> str:
    """Return the name of the conda package that holds a PyPI project."""
    normalised = canonicalize_name(project)
    return _CONDA_NAMES.get(normalised, normalised)


def match_spec(requirement: Requirement) -> str:
    """Translate one requirement; its marker and its extras are not looked at."""
    constraint = version_spec(requirement.specifier)
    name = conda_name(requirement.name)
    return f"{name} {constraint}" if constraint else name


def depends(requirements: Iterable[str]) -> list[str]:
    """Translate ``Requires-Dist`` lines as they hold for this interpreter and platform.

    What an extra asks for is dropped: conda has no extras. Requirements on the same
    package are merged, because a solver's explanation is clearer with one line for each.
    """
    merged: dict[str, SpecifierSet] = {}
    for line in requirements:
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = conda_name(requirement.name)
        merged[name] = merged.get(name, SpecifierSet()) & requirement.specifier
    return [f"{name} {version_spec(merged[name])}".rstrip() for name in sorted(merged)]


def version_spec(specifiers: SpecifierSet) -> str:
    """Translate version specifiers: ``~=1.4.2`` becomes ``>=1.4.2,1.4.*``."""
    # Lower bounds before upper ones, as people write them.
    ordered = sorted(specifiers, key=lambda item: (_ORDER[item.operator], item.version))
    return ",".join(_clause(specifier) for specifier in ordered)


_ORDER = {operator: rank for rank, operator in enumerate(("===", "==", "~=", ">", ">=", "<", "<="))}
_ORDER["!="] = len(_ORDER)


def _clause(specifier: Specifier) -> str:
    operator, version = specifier.operator, specifier.version
    if operator == "~=":
        release = Version(version).release
        epoch = f"{Version(version).epoch}!" if Version(version).epoch else ""
        series = ".".join(str(part) for part in release[:-1])
        return f">={version},{epoch}{series}.*"
    if operator in ("==", "===") and version.endswith(".*"):
        return version
    return f"=={version}" if operator == "===" else f"{operator}{version}"
