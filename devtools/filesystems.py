"""Real file systems, small and for a while: what mounting asks for, and mkfs, must be there."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

# An ext4 made with these has blocks of that size, whose numbers are in the inodes of their files.
WITHOUT_EXTENTS = ("-b", "4096", "-O", "^extents,^64bit")
_BLOCK_BYTES = 4096


class CannotMount(Exception):
    """This machine, or this user, has no such file system; the text says which, or why not."""


@contextmanager
def mounted(
    kind: str, directory: Path, size_mb: int, *options: str, made_with: Sequence[str] = ()
) -> Iterator[Path]:
    """Mounts a new file system on a directory, which it makes, and yields that.

    It is of a `kind` such as `tmpfs`, or `ext4`, which lives in a file beside the directory and is
    `made_with` these arguments of its mkfs. What is in it is gone afterwards. Raises `CannotMount`.
    """
    if os.geteuid() != 0:
        raise CannotMount("only root can mount a small file system")
    directory.mkdir(exist_ok=True)
    with ExitStack() as stack:
        if kind == "tmpfs":
            source, options = "none", (f"size={size_mb}m", *options)
        else:
            image = directory.with_name(f"{directory.name}.{kind}")
            _make(kind, image, size_mb, made_with)
            stack.callback(image.unlink)
            source, options = str(image), ("loop", *options)
        _mount("-t", kind, "-o", ",".join(options), source, str(directory))
        # Children of a daemon that was killed may still be on their way out.
        stack.callback(_run, "umount", "--lazy", str(directory))
        yield directory


@contextmanager
def read_only(directory: Path) -> Iterator[None]:
    """Lets nothing be written below a mounted directory for a while.

    The kernel refuses to remount it while anybody has a file open to write, so it is covered by a
    view of itself; whoever has opened a file before may go on with that.
    """
    _mount("--bind", str(directory), str(directory))
    try:
        _run("mount", "-o", "remount,bind,ro", str(directory))
        yield
    finally:
        _run("umount", "--lazy", str(directory))


def break_ext4(directory: Path) -> None:
    """Lets an ext4 find that it is damaged; mounted with `errors=remount-ro`, it is read-only then
    until it is mounted anew."""
    device = _run("findmnt", "--noheadings", "--output", "SOURCE", str(directory)).strip()
    Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("a test\n")


def lose_block(directory: Path, path: Path) -> None:
    """Lets a file of an ext4 be one that the disk can't read (EIO), from its first block on.

    That block is then beyond the end of the image. The file system is `WITHOUT_EXTENTS`, and is
    mounted anew on its directory, so nobody may use it meanwhile.
    """
    device = _run("findmnt", "--noheadings", "--output", "SOURCE", str(directory)).strip()
    image = Path(_run("losetup", "--noheadings", "--output", "BACK-FILE", device).strip())
    _run("umount", str(directory))
    last = image.stat().st_size // _BLOCK_BYTES - 1
    name = Path("/") / path.relative_to(directory)
    _run("debugfs", "-w", "-R", f"set_inode_field {name} block[0] {last}", str(image))
    _mount("-o", "loop", str(image), str(directory))
    os.truncate(image, last * _BLOCK_BYTES)


def limit_btrfs(directory: Path, limit: str) -> None:
    """Sets how much may be in a btrfs, as a number with a unit, or `none`: its quota."""
    _run("btrfs", "quota", "enable", str(directory))
    _run("btrfs", "qgroup", "limit", limit, str(directory))


def _make(kind: str, image: Path, size_mb: int, arguments: Sequence[str]) -> None:
    if shutil.which(f"mkfs.{kind}") is None:
        raise CannotMount(f"there is no mkfs.{kind} on this machine")
    with image.open("wb") as file:
        file.truncate(size_mb * 2**20)
    _run(f"mkfs.{kind}", "-q", *arguments, str(image))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise CannotMount(f"not even root can mount this here: {done.stderr.strip()}")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
