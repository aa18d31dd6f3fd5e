"""A machine to install services on: a real systemd in namespaces, over a copy of this one's files.

What is written there is in memory, and gone afterwards. Network and users' ids are this machine's.
It needs root, systemd, and `unshare` of util-linux.
"""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

BOOT_S = 60.0
SYSTEMD = Path("/usr/lib/systemd/systemd")
JOURNAL = "systemd-journald.service"
SCRIPT = Path(__file__).with_name("machine.sh")


class NoMachine(Exception):
    """No machine can be booted here; the text says why."""


class Machine:
    """A booted systemd with a journal and nothing else."""

    def __init__(self, scratch: Path) -> None:
        """`scratch` is an empty directory."""
        self._scratch = scratch
        self._name = f"condastore-machine-{os.getpid()}"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """Of its process 1, as others see it."""

    def boot(self) -> None:
        """Raises `NoMachine`."""
        if os.geteuid() != 0:
            raise NoMachine("only root can boot a systemd")
        missing = [name for name in ("unshare", "nsenter") if shutil.which(name) is None]
        if not SYSTEMD.exists():
            missing.append("systemd")
        if missing:
            raise NoMachine(f"there is no {missing[0]} on this machine to boot")
        output = self._scratch.with_suffix(".out")
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", SCRIPT, self._name, self._scratch, JOURNAL],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + BOOT_S
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise NoMachine(f"systemd can't be booted here: {output.read_text().strip()}")
            time.sleep(0.02)

    def _is_up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        with suppress(OSError):
            self.pid = int((children.read_text().split() or ["0"])[0])
        # Before it has a root of its own, this would be the outer machine's.
        if not self.pid or not (self.root / "run" / "systemd" / "private").exists():
            return False
        return self.run("systemctl", "is-active", "machine.target", check=False) == "active"

    @property
    def root(self) -> Path:
        """Its files, as others see them."""
        return Path(f"/proc/{self.pid}/root")

    def run(self, *command: str, check: bool = True) -> str:
        """Runs a command in there; returns what it prints, standard error included.

        With `check` it raises `AssertionError` for one that fails.
        """
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--uts", "--ipc", "--pid"]
        done = subprocess.run(
            [*enter, "--cgroup", "--wdns=/", "--", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            text=True,
            timeout=120,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}"
        return done.stdout.strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Writes a file in there."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def close(self) -> None:
        """Ends it and all that runs in it, and leaves nothing of it."""
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            # Its process 1 dies with it, and so do all others of its namespace.
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for hierarchy in {*Path("/sys/fs/cgroup").glob("*/"), Path("/sys/fs/cgroup")}:
            _remove_cgroup(hierarchy / self._name)


def _remove_cgroup(directory: Path) -> None:
    """Removes a cgroup and all in it, as soon as their processes have gone."""
    deadline = time.monotonic() + BOOT_S
    groups = [Path(path) for path, _, _ in os.walk(directory, topdown=False)]
    for group in groups:
        while group.exists() and time.monotonic() < deadline:
            try:
                group.rmdir()
            except OSError:
                time.sleep(0.02)
