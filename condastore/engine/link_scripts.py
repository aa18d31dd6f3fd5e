"""The scripts that packages bring for when they are linked: run as conda would, or named.

Rattler could run them too, but it goes on when one fails, and nobody sees what they print.
"""

import os
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rattler import PackageRecord
from rattler.shell import ActivationVariables, activate

from condastore.engine import command
from condastore.engine.events import EngineError
from condastore.engine.failures import out_of_memory
from condastore.engine.jobs import Record
from condastore.engine.permissions import settle
from condastore.engine.records import for_rattler, label

# Conda warns of the first, which could change packages that others share. Nothing runs it here.
_NEVER_RUN, _RUN = "pre-link", "post-link"
_MESSAGES = ".messages.txt"
_MESSAGES_BYTES = 1 << 16
_LAST_LINES = 20
_LAST_CHARACTERS = 4000


@dataclass(frozen=True)
class LinkScript:
    """A script in a finished prefix."""

    kind: str
    package: Record
    path: Path


def find_scripts(prefix: Path, records: Sequence[Record]) -> list[LinkScript]:
    """Returns the link scripts of a prefix; those of what a package depends on come before its."""
    found = {record["name"]: list(_scripts_of(record, prefix)) for record in records}
    if not any(found.values()):
        return []
    order = PackageRecord.sort_topologically(list(for_rattler(records)))
    return [script for record in order for script in found[record.name.source]]


def _scripts_of(record: Record, prefix: Path) -> Iterator[LinkScript]:
    for kind in (_NEVER_RUN, _RUN):
        path = prefix / "bin" / f".{record['name']}-{kind}.sh"
        if path.is_file():
            yield LinkScript(kind, record, path)


def name_scripts(scripts: Sequence[LinkScript], log: Callable[[str], None]) -> None:
    """Tells which scripts the packages of a prefix have, all of which are left out."""
    for script in scripts:
        why = "" if script.kind == _NEVER_RUN else " (CondaStore.run_link_scripts is off)"
        log(f"warning: {label(script.package)} has a {script.kind} script, which was not run{why}")


def run_scripts(
    scripts: Sequence[LinkScript], prefix: Path, workspace: Path, log: Callable[[str], None]
) -> None:
    """Runs what packages of a prefix want to be run, one after the other.

    Raises EngineError for the first that fails. No file of the prefix may be shared with others.
    """
    name_scripts([script for script in scripts if script.kind == _NEVER_RUN], log)
    wanted = [script for script in scripts if script.kind == _RUN]
    if wanted:
        # Nobody may write to the files of the package store, whose modes the copies have.
        settle(prefix, None, None, None)
    for script in wanted:
        log(f"warning: {label(script.package)} runs a {script.kind} script")
        _run(script, prefix, workspace, log)


def _run(script: LinkScript, prefix: Path, workspace: Path, log: Callable[[str], None]) -> None:
    environment = {
        **command.base_environment(),
        "HOME": str(workspace),
        "PREFIX": str(prefix),
        "PKG_NAME": script.package["name"],
        "PKG_VERSION": str(script.package["version"]),
        "PKG_BUILDNUM": str(script.package.get("build_number") or 0),
    }
    outcome = command.run(
        [shutil.which("bash") or "sh", str(_in_environment(script, prefix, workspace))],
        environment=environment,
        directory=script.path.parent,
        log=log,
        logs_output=True,
    )
    messages = _take_messages(prefix)
    if messages:
        log(messages)
    if outcome.returncode:
        raise _failure(script, outcome.returncode, f"{outcome.complaints}\n{messages}")


def _in_environment(script: LinkScript, prefix: Path, workspace: Path) -> Path:
    """Returns a file that activates the environment and then is the script."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    activation = activate(prefix, ActivationVariables(current_path=path))
    file = workspace / "link-script.sh"
    file.write_text(f"{activation.script}\n. {shlex.quote(str(script.path))}\n")
    return file


def _take_messages(prefix: Path) -> str:
    """Returns what a script has left for people in the file where conda looks for it."""
    try:
        with open(prefix / _MESSAGES, "rb") as file:
            text = file.read(_MESSAGES_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""
    (prefix / _MESSAGES).unlink()
    return text.strip()


def _failure(script: LinkScript, status: int, said: str) -> EngineError:
    how = f"failed with status {status}"
    if status < 0:
        how = f"was ended by {signal.strsignal(-status) or f'signal {-status}'}"
    last = "\n".join(said.strip().splitlines()[-_LAST_LINES:])[-_LAST_CHARACTERS:]
    text = f"The {script.kind} script of {label(script.package)}, bin/{script.path.name}, {how}"
    text = f"{text}. Its last words:\n{last}" if last else f"{text}."
    memory = out_of_memory(last)
    return EngineError("memory" if memory else "package", f"{text}{memory}")
