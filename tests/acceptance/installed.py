"""condastore as a service of a real systemd, on a machine of its own, as the documentation says."""

import re
import shutil
import sys
import sysconfig
from pathlib import Path

import condastore
from devtools.machine import Machine
from devtools.servers import free_port
from tests.acceptance.harness import Daemon, eventually

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "deployment.md"
HOME = "/opt/condastore"
UNIT = "condastore.service"
CONFIG = "/etc/condastore/config.py"
COMMAND = """\
#!{home}/bin/python
import sys
from condastore.cli import main
sys.exit(main())
"""


class Service:
    """The installed condastore.service."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.daemon = Daemon(machine.root / "var/lib/condastore")
        self.daemon.url = f"http://127.0.0.1:{free_port()}"
        self.settings = f"""\
c.CondaStoreServer.port = {self.daemon.url.rpartition(":")[2]}
c.CondaStore.storage_threshold = 0
c.CondaStoreWorker.index_interval = 0
c.CondaStoreWorker.concurrency = 1
c.CondaStoreWorker.warm_solvers = 0
c.CondaStoreWorker.drain_timeout = 1
"""

    def install(self) -> None:
        """Does what the documentation says, line by line."""
        put_program(self.machine)
        for line in documented("systemd, step by step"):
            if "pip install" in line:
                continue
            printed = self.machine.run("bash", "-ec", line)
            if f"> {CONFIG}" in line:
                self.configure()
            if "condastore token" in line:
                self.daemon.client.headers["Authorization"] = f"Bearer {printed}"

    def configure(self, text: str = "") -> None:
        """Writes what the tests need into the configuration, and some text behind it."""
        path = self.machine.root / CONFIG[1:]
        path.write_text(self.settings + text)

    def add(self, lines: str) -> None:
        """Adds lines to the unit, as `systemctl edit` does."""
        self.machine.write(f"/etc/systemd/system/{UNIT}.d/tests.conf", f"[Service]\n{lines}\n")
        self.machine.run("systemctl", "daemon-reload")

    def do(self, verb: str) -> None:
        """`systemctl start`, say, which must succeed."""
        self.machine.run("systemctl", verb, "condastore")

    def shows(self, name: str) -> str:
        """Returns what systemd says of it, such as `ActiveState`."""
        return self.machine.run("systemctl", "show", "--value", "-p", name, "condastore")

    def becomes(self, name: str, value: str) -> None:
        """Waits until systemd says something of it."""
        eventually(lambda: self.shows(name) == value, what=lambda: self.status())

    def status(self) -> str:
        """Returns what an operator sees of it."""
        return self.machine.run(
            "systemctl", "status", "--no-pager", "--full", "condastore", check=False
        )

    def journal(self, *options: str) -> str:
        """Returns what the journal has of it."""
        return self.machine.run("journalctl", "--no-pager", "-u", "condastore", *options)

    def pids(self) -> set[int]:
        """Returns its processes, as they are numbered out here."""
        groups = self.machine.run("find", "/sys/fs/cgroup", "-path", f"*{UNIT}/cgroup.procs")
        files = [self.machine.root / path[1:] for path in groups.splitlines()]
        return {int(line) for file in files for line in file.read_text().splitlines()}


def documented(heading: str) -> list[str]:
    """Returns the commands that the documentation has below a heading."""
    section = DOCUMENTATION.read_text().partition(f"# {heading}\n")[2]
    found = re.search(r"```\n(.*?)```", section, re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def put_program(machine: Machine) -> None:
    """Has the program of the tests where the documentation installs it."""
    machine.run("mkdir", "-p", HOME)
    # Only in there it can be changed without a change out here.
    machine.run("mount", "--bind", sys.prefix, HOME)
    packages = sysconfig.get_path("purelib", vars={"base": HOME})
    inside = machine.root / packages[1:]
    for editable in inside.glob("*condastore*.pth"):
        editable.unlink()
    shutil.copytree(Path(condastore.__file__).parent, inside / "condastore")
    machine.write(f"{HOME}/bin/condastore", COMMAND.format(home=HOME), 0o755)
    for directory in Path(sys.base_prefix).parents:
        machine.run("chmod", "a+rx", str(directory))
