"""uv, the tool that chooses and installs pip packages: its command lines and its complaints."""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import uv

from condastore.engine import command
from condastore.engine.events import EngineError, Kind
from condastore.engine.pip.lock import Entry, canonical_name, read_pylock, write_pylock
from condastore.engine.pip.sources import Sources

Versions = Mapping[str, str]
"""Distributions by canonical name."""

# They say where uv finds the configuration files of the account and of the machine.
_CONFIGURATION_VARIABLES = ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS")
_FAILURES: tuple[tuple[str, Kind], ...] = (
    (r"No space left on device", "disk"),
    (r"Hash mismatch", "hash"),
    (r"40[13] (Unauthorized|Forbidden)|lack of valid authentication", "auth"),
    (r"error sending request|Failed to fetch|timed out|dns error", "network"),
    (r"No solution found|no usable wheels|building .*is disabled", "unsatisfiable"),
    (r"[Pp]arse", "spec"),
)
_NO_WHEEL = re.compile(r"no usable wheels|building .*is disabled")
_NO_WHEEL_HELP = (
    "No wheel suits this environment, and sdists are not allowed because they run code of their "
    "own while they are built. Choose a version that has a wheel, take the package from a conda "
    "channel, or ask an administrator for CondaStore.pip_allow_sdists."
)


@dataclass(frozen=True)
class Uv:
    """uv at work on one prefix, with a scratch directory of its own."""

    python: Path
    cache: Path
    directory: Path
    sources: Sources
    only_binary: bool
    offline: bool
    log: Callable[[str], None]

    def installed(self) -> dict[str, str]:
        """The distributions in the prefix."""
        listing = json.loads(self._run("list", "--quiet", "--format", "json"))
        return {canonical_name(each["name"]): each["version"] for each in listing}

    def plan(self, constraints: Versions) -> dict[str, str]:
        """The distributions that the requirements add to the prefix, or replace in it.

        The version of one that comes from the URL of an sdist is not known yet, and empty.
        """
        answer = self._run(
            *("install", "--dry-run", "--output-format", "json"),
            *("--requirements", self._file("requirements.in", self.sources.requirements)),
            *("--constraints", self._file("constraints.txt", _pins(constraints))),
            *self._choice(),
        )
        changes = json.loads(answer)["changes"]
        return {canonical_name(change["name"]): change.get("version", "") for change in changes}

    def lock(
        self, planned: Versions, owned: Versions, target: tuple[str, str] | None = None
    ) -> list[Entry]:
        """The files of the planned distributions, for this platform or for a target.

        A target is uv's name of the platform and the version of Python there.
        """
        foreign = ("--python-platform", target[0], "--python-version", target[1]) if target else ()
        document = self._run(
            *("compile", self._file("requirements.in", self.sources.requirements)),
            *("--constraints", self._file("constraints.txt", _pins(planned))),
            *("--excludes", self._file("excludes.txt", owned)),
            *("--quiet", "--format", "pylock.toml", "--no-header"),
            *foreign,
            *self._choice(),
        )
        return read_pylock(document)

    def install(self, entries: Iterable[Entry]) -> None:
        """Puts just these files into the prefix, after their hashes are checked."""
        lock = self._file("pylock.toml", [write_pylock(entries)])
        self._run(
            "install", "--no-deps", "--require-hashes", "--requirements", lock, *self._choice()
        )

    def _choice(self) -> tuple[str, ...]:
        only_binary = ("--only-binary", ":all:") if self.only_binary else ()
        return *self.sources.arguments, *only_binary

    def _file(self, name: str, lines: Iterable[str]) -> str:
        path = self.directory / name
        path.write_text("\n".join(lines) + "\n")
        return str(path)

    def _run(self, action: str, *arguments: str) -> str:
        outcome = command.run(
            [uv.find_uv_bin(), "pip", action, *arguments, "--python", str(self.python)],
            environment=self._environment(),
            # uv would obey a pyproject.toml or uv.toml of the directory in which it runs.
            directory=self.directory,
            log=self.log,
        )
        if outcome.returncode == 0:
            return outcome.output
        raise _failure(outcome)

    def _environment(self) -> dict[str, str]:
        configuration = {
            name: os.environ[name] for name in _CONFIGURATION_VARIABLES if name in os.environ
        }
        return {
            **command.base_environment(),
            **configuration,
            "UV_CACHE_DIR": str(self.cache),
            "UV_LINK_MODE": "hardlink",
            "UV_NO_PROGRESS": "1",
            "UV_OFFLINE": "1" if self.offline else "0",
            "UV_PREVIEW_FEATURES": "pylock",
            "UV_PYTHON_DOWNLOADS": "never",
            "NO_COLOR": "1",
            **self.sources.environment,
        }


def _pins(versions: Versions) -> list[str]:
    return [f"{name}=={version}" for name, version in versions.items() if version]


def _failure(outcome: command.Outcome) -> EngineError:
    complaints = outcome.complaints
    explanation = complaints[max(complaints.find("error: "), 0) :].removeprefix("error: ")
    kinds: list[Kind] = [kind for text, kind in _FAILURES if re.search(text, explanation)]
    kind = kinds[0] if kinds else "engine"
    if _NO_WHEEL.search(explanation):
        explanation = f"{explanation}\n\n{_NO_WHEEL_HELP}"
    return EngineError(
        kind, f"pip packages: {explanation or f'uv ended with {outcome.returncode}'}"
    )
