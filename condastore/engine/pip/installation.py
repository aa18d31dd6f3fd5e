"""The pip packages of an environment: chosen and installed beside those that conda owns."""

from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import rattler

from condastore.engine import command
from condastore.engine.events import EngineError, Events
from condastore.engine.pip.lock import Entry, canonical_name
from condastore.engine.pip.sources import file_sources, read_sources
from condastore.engine.pip.tool import Uv, Versions
from condastore.engine.workspace import workspace

_STEP = "pip"
_UV_PLATFORMS = {
    "linux-64": "x86_64-unknown-linux-gnu",
    "linux-aarch64": "aarch64-unknown-linux-gnu",
    "linux-riscv64": "riscv64-unknown-linux",
    "osx-64": "x86_64-apple-darwin",
    "osx-arm64": "aarch64-apple-darwin",
    "win-32": "i686-pc-windows-msvc",
    "win-64": "x86_64-pc-windows-msvc",
    "win-arm64": "aarch64-pc-windows-msvc",
}


def resolve_and_install(
    job: Mapping[str, Any], prefix: Path, events: Events
) -> dict[str, list[Entry]]:
    """Installs the pip packages of a build; returns the chosen files of each platform.

    They are those of `pip_locked` if the build has them, else those that satisfy `pip`.
    """
    python = prefix / "bin" / "python"
    if not python.exists():
        raise EngineError("spec", "The pip: section needs python among the dependencies.")
    events.phase("pip")
    here = str(rattler.Subdir.current())
    locked = job.get("pip_locked")
    with workspace(Path(job["packages_dir"]) / "work") as directory:
        tool = _tool(job, python, directory, events)
        if locked:
            chosen = {here: list(locked)}
        else:
            chosen = _resolve(tool, here, job["pip"].get("python_platforms", {}), events)
        _install(tool, chosen[here], events)
        installed = _installed(prefix, chosen[here])
        if job.get("bytecode", True):
            _compile(tool, installed.values())
    if not locked:
        _add_requires(chosen, installed)
    return chosen


def _tool(job: Mapping[str, Any], python: Path, directory: Path, events: Events) -> Uv:
    credentials = job["credentials"]
    if job.get("pip_locked"):
        sources = file_sources([entry["url"] for entry in job["pip_locked"]], credentials)
    else:
        requirements = job["pip"]["requirements"]
        sources = read_sources(requirements, job.get("pip_index_url"), credentials)
    return Uv(
        python=python,
        # Beside the packages of conda, so that files can be hard links here too.
        cache=Path(job["packages_dir"]) / "uv",
        directory=directory,
        sources=sources,
        only_binary=job.get("pip_only_binary", True),
        offline=job["offline"],
        log=lambda text: events.log(text, _STEP),
    )


def _resolve(
    tool: Uv, here: str, python_platforms: Mapping[str, str], events: Events
) -> dict[str, list[Entry]]:
    owned = tool.installed()
    planned = _plan(tool, owned)
    chosen = {here: tool.lock(planned, owned)}
    for platform in sorted(python_platforms.keys() - {here}):
        target = (_UV_PLATFORMS.get(platform, platform), python_platforms[platform])
        try:
            chosen[platform] = tool.lock(planned, owned, target)
        except EngineError as error:
            # This build can do without: other platforms matter only to those who take its lock.
            events.log(f"warning: no pip packages for {platform}: {error}", _STEP)
    return chosen


def _plan(tool: Uv, owned: Versions) -> Versions:
    """What to add to the prefix; whatever conda owns must stay as it is."""
    try:
        planned = tool.plan(owned)
    except EngineError as error:
        blamed = [name for name in owned if f"{name}=={owned[name]}" in error.text]
        raise EngineError(error.kind, error.text + _ownership(blamed, owned)) from None
    replaced = sorted(planned.keys() & owned.keys())
    if replaced:
        text = f"pip packages: {', '.join(replaced)} would be replaced."
        raise EngineError("unsatisfiable", text + _ownership(replaced, owned))
    return planned


def _ownership(names: Iterable[str], owned: Versions) -> str:
    return "".join(
        f"\n{name} {owned[name]} is owned by conda, which pip packages can't replace: change its "
        "version among the conda dependencies, or what the pip: section asks of it."
        for name in names
    )


def _install(tool: Uv, entries: list[Entry], events: Events) -> None:
    events.progress("pip", 0, len(entries))
    if entries:
        listing = "\n".join(f"  {entry['name']} {entry['version']}" for entry in entries)
        events.log(f"Packages from pip:\n{listing}", _STEP)
        tool.install(entries)
    events.progress("pip", len(entries), len(entries))


def _installed(prefix: Path, entries: Iterable[Entry]) -> dict[str, Distribution]:
    """What uv has put into the prefix, by canonical name."""
    names = {canonical_name(entry["name"]) for entry in entries}
    folders = [str(folder) for folder in prefix.glob("lib/python*/site-packages")]
    found = {canonical_name(each.name): each for each in distributions(path=folders)}
    return {name: each for name, each in found.items() if name in names}


def _compile(tool: Uv, installed: Iterable[Distribution]) -> None:
    """Makes the byte code that users of a read-only environment could not keep."""
    files = [
        str(file.locate())
        for each in installed
        for file in each.files or ()
        if file.suffix == ".py"
    ]
    listing = tool.directory / "sources.txt"
    listing.write_text("\n".join(files))
    # Without site, so that no .pth file of a package is run. The exit status only tells of files
    # that are no Python after all, such as templates.
    command.run(
        [str(tool.python), *("-I", "-S", "-m", "compileall", "-qq", "-j", "0", "-i", str(listing))],
        environment=command.base_environment(),
        directory=tool.directory,
        log=tool.log,
    )


def _add_requires(chosen: Mapping[str, list[Entry]], installed: Mapping[str, Distribution]) -> None:
    for entries in chosen.values():
        for entry in entries:
            distribution = installed.get(canonical_name(entry["name"]))
            entry["requires"] = list(distribution.requires or ()) if distribution else []
