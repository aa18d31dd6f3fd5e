"""A disk whose power can be cut: ext4 that is shut down and writes nothing that it has in memory.

What was synced is there afterwards, and of the rest as little as there can be.
"""

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.acceptance.harness import Daemon, eventually
from tests.patience import pauses

NEEDS = "only root can mount a small file system"
IMAGE_BYTES = 4 * 2**30
# EXT4_IOC_SHUTDOWN, and that the log is not flushed.
_SHUTDOWN, _AT_ONCE = 0x8004587D, 2
# Nothing is written before it must be: not after five seconds, nor because a file is replaced.
_OPTIONS = "loop,noatime,noauto_da_alloc,commit=300"


class Disk:
    """A mounted file system."""

    def __init__(self, image: Path, path: Path) -> None:
        self._image = image
        self.path = path

    def cut(self, daemon: Daemon) -> None:
        """Cuts the power: the disk keeps what it has, processes end, and the machine boots."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _AT_ONCE))
        finally:
            os.close(directory)
        daemon.kill()
        eventually(lambda: not daemon.processes(), what=daemon.processes)
        self.unmount()
        self.mount()

    def mount(self) -> None:
        """Mounts it, which reads its journal if need be."""
        _run("mount", "-o", _OPTIONS, str(self._image), str(self.path))

    def unmount(self) -> None:
        """Unmounts it, when whatever used it has ended."""
        for _ in pauses():
            if subprocess.run(["umount", str(self.path)], capture_output=True).returncode == 0:
                return
        _run("umount", str(self.path))


class PoweredDaemon(Daemon):
    """A daemon on such a disk, which prints elsewhere."""

    @property
    def output(self) -> Path:
        return self.data.parent.parent / "daemon.out"


@contextmanager
def disk(directory: Path) -> Iterator[Disk]:
    """A new one, in a directory. Raises `subprocess.CalledProcessError` where none can be."""
    image, path = directory / "disk.img", directory / "disk"
    path.mkdir()
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    _run("mkfs.ext4", "-q", "-F", str(image))
    found = Disk(image, path)
    found.mount()
    try:
        yield found
    finally:
        found.unmount()
        image.unlink()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
