"""The installer's role: from a prefix to a script that installs it, with its archive inside.

The file is the script, the archive, and a trailer that tells the size of both, what is known of
the files when they are packed, and the hash of all before it, which so is made while it is written.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

from condastore.engine.events import EngineError, Events
from condastore.engine.jobs import InstallerJob
from condastore.engine.pack.assembly import assembly
from condastore.engine.pack.fragments import Record
from condastore.engine.pack.installed import platform_of
from condastore.engine.pack.output import output
from condastore.engine.pack.supply import Supply

_SCRIPT = Path(__file__).with_name("installer.sh")
_MODE = 0o755
_TOKEN = re.compile("@([A-Z_]+)@")
_START = "ARCHIVE_START"
_START_CHARACTERS = 7
_NUMBER_CHARACTERS = 15
_SUM_BYTES = 64 + 1
_SYSTEMS = {"linux": "Linux", "osx": "Darwin"}
# What `uname -m` says; the first is for people.
_MACHINES = {"64": "x86_64 amd64", "32": "i686 i586 i386", "aarch64": "aarch64 arm64"}
# As in conda-pack, whose script leaves out the Python that runs it.
_RUNNING = re.compile("bin/python")


def installer(job: InstallerJob, events: Events) -> None:
    """Packs the prefix of a job into an installer, or leaves none."""
    name, version = _checked("name", job["name"]), _checked("version", job["version"])
    if "/" in name or name.startswith((".", "-")):
        raise EngineError("spec", f"{name!r} can't be the name of a directory.")
    with output(Path(job["output"])) as out, assembly(job, "tar.gz", events, "installer") as made:
        out.mode = _MODE
        out.write(_header({"NAME": name, "VERSION": version, **_needs(made.supply)}))
        made.write(out)
        out.write(_numbers(out.bytes, made.unpacked_bytes // 1024, _longest_prefix(made.records)))
        out.write(f"{out.sha256}\n".encode())
    events.result(bytes=out.bytes, sha256=out.sha256)


def _checked(what: str, text: str) -> str:
    if not text or not text.isprintable():
        raise EngineError("spec", f"The {what} {text!r} can't be shown to people.")
    return text


def _needs(supply: Supply) -> dict[str, str]:
    system, _, machine = (platform_of(supply.packages) or "").partition("-")
    return {
        "SYSTEM": _SYSTEMS.get(system, system),
        "MACHINES": _MACHINES.get(machine, machine),
        "PYTHON": "no" if supply.site_packages is None else "yes",
        "TRAILER_BYTES": str(len(_numbers(0, 0, 0)) + _SUM_BYTES),
        "SUM_BYTES": str(_SUM_BYTES),
    }


def _longest_prefix(records: Iterable[Record]) -> int:
    """Returns how many bytes of a path fit into the programs, or 0 if they take any."""
    rooms = (
        len(placeholder.encode())
        for path, placeholder, mode in records
        if mode == "binary" and not _RUNNING.match(path)
    )
    return min(rooms, default=0)


def _header(values: Mapping[str, str]) -> bytes:
    """Returns the script, which also knows its own length."""
    script = _SCRIPT.read_text()
    quoted = {name: shlex.quote(value) for name, value in values.items()}

    def fill(start: str) -> bytes:
        everything = {**quoted, _START: start.ljust(_START_CHARACTERS)}
        return _TOKEN.sub(lambda found: everything[found[1]], script).encode()

    return fill(str(len(fill(""))))


def _numbers(*numbers: int) -> bytes:
    # It begins a line, so that the numbers are found whatever the archive ends with.
    padded = (str(number).ljust(_NUMBER_CHARACTERS) for number in numbers)
    return f"\n# condastore {' '.join(padded)} ".encode()
