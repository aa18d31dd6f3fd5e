"""The installer's role: from a prefix to a script that installs it, with its archive inside.

The file is the script, the archive, and a trailer that tells the size and the hash of both, so
that all of it is hashed once, while it is written.
"""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from condastore.engine.events import EngineError, Events
from condastore.engine.jobs import InstallerJob
from condastore.engine.pack.assembly import Assembly, assembly
from condastore.engine.pack.installed import platform_of
from condastore.engine.pack.output import output

_SCRIPT = Path(__file__).with_name("installer.sh")
_MODE = 0o755
_TOKEN = re.compile("@([A-Z_]+)@")
_START = "ARCHIVE_START"
_START_CHARACTERS = 7
_SUM_CHARACTERS = 64
_SIZE_CHARACTERS = 15
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
        out.write(_header({"NAME": name, "VERSION": version, **_needs(made)}))
        made.write(out)
        out.write(_trailer(out.bytes, out.sha256))
    events.result(bytes=out.bytes, sha256=out.sha256)


def _checked(what: str, text: str) -> str:
    if not text or not text.isprintable():
        raise EngineError("spec", f"The {what} {text!r} can't be shown to people.")
    return text


def _needs(made: Assembly) -> dict[str, str]:
    packages = made.contents.packages
    system, _, machine = (platform_of(packages) or "").partition("-")
    rooms = [
        len(placeholder.encode())
        for path, placeholder, mode in made.records
        if mode == "binary" and not _RUNNING.match(path)
    ]
    return {
        "SYSTEM": _SYSTEMS.get(system, system),
        "MACHINES": _MACHINES.get(machine, machine),
        "PYTHON": "no" if made.contents.site_packages is None else "yes",
        "LONGEST_PREFIX": str(min(rooms, default=0)),
        "FILES_KB": str(made.unpacked_bytes // 1024),
        "TRAILER_BYTES": str(len(_trailer(0, "0" * _SUM_CHARACTERS))),
    }


def _header(values: Mapping[str, str]) -> bytes:
    """Returns the script, which also knows its own length."""
    script = _SCRIPT.read_text()
    quoted = {name: shlex.quote(value) for name, value in values.items()}

    def fill(start: str) -> bytes:
        everything = {**quoted, _START: start.ljust(_START_CHARACTERS)}
        return _TOKEN.sub(lambda found: everything[found[1]], script).encode()

    return fill(str(len(fill(""))))


def _trailer(size: int, sha256: str) -> bytes:
    # It begins a line, so that the numbers are found whatever the archive ends with.
    return f"\n# condastore {size:<{_SIZE_CHARACTERS}} {sha256}\n".encode()
