"""conda, mamba or micromamba: found, given a world of its own, and run."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from condastore.engine import command
from condastore.engine.events import EngineError
from condastore.engine.external.answer import Document, last_words, read_answer
from condastore.engine.external.login import write_credentials

# One set for all: what is meant for one tool is nothing to the others.
_SETTINGS = {
    "CONDA_ADD_PIP_AS_PYTHON_DEPENDENCY": "false",
    "CONDA_ALWAYS_YES": "true",
    "CONDA_AUTO_UPDATE_CONDA": "false",
    "CONDA_NOTIFY_OUTDATED_CONDA": "false",
    "CONDA_NUMBER_CHANNEL_NOTICES": "0",
    "CONDA_REGISTER_ENVS": "false",
    "CONDA_REPORT_ERRORS": "false",
    "CONDA_SAFETY_CHECKS": "enabled",
    "MAMBA_SAFETY_CHECKS": "enabled",
    "MAMBA_NO_RC": "true",
    "NO_COLOR": "1",
    "PYTHONNOUSERSITE": "1",
}


@dataclass(frozen=True)
class Tool:
    """A tool that sees no configuration, package or environment of anybody else."""

    executable: str
    directory: Path
    """Its working directory; what it keeps for itself is here too."""
    environment: Mapping[str, str]
    log: Callable[[str], None]

    @property
    def name(self) -> str:
        """How messages call it."""
        return Path(self.executable).name

    def create(
        self,
        prefix: Path,
        *arguments: str,
        package_dirs: Sequence[Path],
        variables: Mapping[str, str] | None = None,
        tick: Callable[[], None] = lambda: None,
        timeout_s: float | None = None,
        must_answer: bool = False,
    ) -> Document:
        """Runs its `create` for a prefix, and returns the answer."""
        package_variable = {"CONDA_PKGS_DIRS": ",".join(map(str, package_dirs))}
        outcome = command.run(
            [self.executable, "create", "--json", "--yes", "--prefix", str(prefix), *arguments],
            environment={**self.environment, **package_variable, **(variables or {})},
            directory=self.directory,
            log=self.log,
            tick=tick,
            timeout_s=timeout_s,
        )
        answer = read_answer(self.name, outcome)
        if must_answer and not answer:
            text = f"{self.name} gave no answer that can be read, but:\n{last_words(outcome)}"
            raise EngineError("engine", text)
        return answer


def find_tool(job: Mapping[str, Any], directory: Path, log: Callable[[str], None]) -> Tool:
    """The tool that a job names, set up to live in an empty directory."""
    executable = shutil.which(job["command"])
    if executable is None:
        raise EngineError(
            "engine",
            f"conda_command {job['command']!r} was not found: set c.CondaStore.conda_command to "
            "the path or the name of conda, mamba or micromamba, or to 'rattler'",
        )
    home = directory / "home"
    home.mkdir(mode=0o700)
    configuration = home / "condarc"
    configuration.touch()
    ours = command.base_environment()
    if "SSL_CERT_FILE" in ours:
        # The tools look for certificates here only.
        ours.setdefault("REQUESTS_CA_BUNDLE", ours["SSL_CERT_FILE"])
    environment = {
        **ours,
        **_SETTINGS,
        **dict.fromkeys(("CONDA_OFFLINE", "MAMBA_OFFLINE"), "true" if job["offline"] else "false"),
        **write_credentials(home, job["credentials"]),
        "HOME": str(home),
        "CONDARC": str(configuration),
        "CONDA_ENVS_DIRS": str(home / "envs"),
        "MAMBA_ROOT_PREFIX": str(home / "root"),
    }
    return Tool(executable, directory, environment, log)
