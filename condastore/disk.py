"""How much room there is where the daemon writes, and what it does when there is none (promise I6).

Below the limits nothing begins that takes space: what is asked for is refused, and what is queued
waits. Signing in, reading, cancelling and deleting go on. On a disk that is really full even a
deletion takes space, for its transaction; for that a reserve is kept, which is given up then.
"""

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from condastore.configuration import CondaStore
from condastore.errors import DiskFull

logger = logging.getLogger(__name__)

PERIOD_S = 5.0
PERIOD_WITHOUT_ROOM_S = 1.0
RESERVE = ".reserve"
# Several files, because inodes run out as well as bytes.
RESERVE_FILES = 16
RESERVE_FILE_BYTES = 256 * 1024
RESERVE_BYTES = RESERVE_FILES * RESERVE_FILE_BYTES
# Where there is less, it is not made.
ROOMY_BYTES = 8 * RESERVE_BYTES
# Where less is free than this, the reserve is of more use than room that nobody may take.
FULL_BYTES = RESERVE_BYTES // 2
# Among the options of an ext4, which has no other sign of it.
BROKEN = {"emergency_ro", "shutdown"}
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Room:
    """What is free on one file system, for who is not root."""

    settings: tuple[str, ...]
    """What lies there, by the names of the settings that say so."""
    directory: Path
    free_bytes: int
    free_inodes: int | None
    """None where the file system makes as many as are needed."""
    is_read_only: bool
    is_broken: bool = False
    """Whether the kernel lets nothing be written because of an error that it found."""

    @property
    def name(self) -> str:
        """What it is called for people."""
        return f"the file system of {' and '.join(self.settings)}"

    @property
    def reserve(self) -> Path:
        """What is given up when nothing else can be written."""
        return self.directory / RESERVE

    @property
    def is_exhausted(self) -> bool:
        """Whether next to nothing can be written."""
        return self.free_bytes < FULL_BYTES or self.free_inodes in range(RESERVE_FILES)


class Disk:
    """The file systems that the daemon writes to."""

    def __init__(self, config: CondaStore, places: Mapping[str, Path]) -> None:
        """`places` are directories, by the settings that name them; they may be made later."""
        self._config = config
        self._places = places
        self._hurry = asyncio.Event()
        # What a quota leaves, no file system says; what the last daemon met, nobody.
        self._is_in_doubt = True
        # What is tried before a reserve is made again; and where nothing could be written at all.
        self._doubtful: set[Path] = set()
        self._refusing: set[Path] = set()
        self.rooms: list[Room] = []
        """As they were when last looked at."""
        self.problem: str | None = None
        """Why nothing may begin that takes space, in a sentence; None while it may."""

    def require(self) -> None:
        """Raises `DiskFull` if nothing may begin now that takes space."""
        if self.problem is not None:
            raise DiskFull(self.problem)

    def doubt(self) -> None:
        """Says that something could not be written, whatever the file system says of its room."""
        self._is_in_doubt = True
        self._hurry.set()

    async def run(self, changed: Callable[[], None]) -> None:
        """Looks again and again; `changed` is called when it finds another problem, or none."""
        while True:
            before = self.problem
            with suppress(OSError):
                await asyncio.to_thread(self.look)
            if self.problem != before:
                changed()
            self._hurry.clear()
            period_s = PERIOD_S if self.problem is None else PERIOD_WITHOUT_ROOM_S
            with suppress(TimeoutError):
                async with asyncio.timeout(period_s):
                    await self._hurry.wait()

    def look(self) -> None:
        """Finds out how much room there is, and gives up the reserve or makes it anew."""
        self.rooms = self._measured()
        is_in_doubt, self._is_in_doubt = self._is_in_doubt, False
        for room in self.rooms:
            if room.is_read_only or room.is_broken:
                # What became so with its reserve keeps it.
                continue
            if room.is_exhausted or (is_in_doubt and not _takes(room, RESERVE_BYTES)):
                self._doubtful.add(room.reserve)
                self._refusing.add(room.reserve)
                _give_up(room.reserve)
            elif self._known_lack(room) is None:
                self._keep(room)
        lacks = [lack for room in self.rooms if (lack := self._lack(room)) is not None]
        problem = "; ".join(lacks) or None
        if problem is not None and self.problem is None:
            logger.warning("nothing begins that takes space: %s", problem)
        elif problem is None and self.problem is not None:
            logger.warning("there is room on the disk again")
        self.problem = problem

    def _keep(self, room: Room) -> None:
        """Makes the reserve, if there is a good deal more room than it takes.

        Where there is doubt, that room is taken for a moment, to see whether it may be.
        """
        reserve = room.reserve
        if _is_whole(reserve):
            # Perhaps made by another daemon that shares the store.
            self._trust(reserve)
            return
        if room.free_bytes < ROOMY_BYTES:
            return
        is_doubtful = reserve in self._doubtful
        if is_doubtful and not _takes(room, ROOMY_BYTES):
            return
        try:
            reserve.mkdir(exist_ok=True)
            for number in range(RESERVE_FILES):
                _allocate(reserve / str(number), RESERVE_FILE_BYTES)
        except OSError as error:
            # A part of it would be room that nobody may take, and too little when it is needed.
            shutil.rmtree(reserve, ignore_errors=True)
            self._doubtful.add(reserve)
            if not is_doubtful:
                logger.warning("the reserve %s can't be made: %s", reserve, error)
        else:
            self._trust(reserve)

    def _trust(self, reserve: Path) -> None:
        self._doubtful.discard(reserve)
        self._refusing.discard(reserve)

    def _measured(self) -> list[Room]:
        systems: dict[int, list[str]] = {}
        for setting, directory in self._places.items():
            with suppress(OSError):
                systems.setdefault(directory.stat().st_dev, []).append(setting)
        rooms = []
        broken = _broken_devices()
        for device, settings in systems.items():
            directory = self._places[settings[0]]
            found = os.statvfs(directory)
            rooms.append(
                Room(
                    tuple(settings),
                    directory,
                    found.f_bavail * found.f_frsize,
                    found.f_favail if found.f_files else None,
                    bool(found.f_flag & os.ST_RDONLY),
                    device in broken,
                )
            )
        return rooms

    def _lack(self, room: Room) -> str | None:
        """Returns what a file system lacks, and what to do."""
        lack = self._known_lack(room)
        if lack is None and room.reserve in self._refusing and room.free_bytes >= ROOMY_BYTES:
            return (
                f"{room.name} takes nothing more, although it says that it has "
                f"{_amount(room.free_bytes)} free: a quota may be used up; delete builds that "
                "nobody needs, or raise the quota"
            )
        return lack

    def _known_lack(self, room: Room) -> str | None:
        """Returns what a file system lacks by its own account."""
        where = room.name
        if room.is_broken:
            return (
                f"{where} has an error, and so the kernel has made it read-only (see dmesg); stop "
                "condastore, repair it with fsck, and mount it again"
            )
        if room.is_read_only:
            return f"{where} is mounted read-only; mount it so that it can be written"
        limit = self._config.min_free_bytes
        if room.free_bytes < limit:
            return (
                f"{where} has {_amount(room.free_bytes)} free and must have {_amount(limit)} "
                "(CondaStore.min_free_bytes); delete builds that nobody needs, or make room"
            )
        least = self._config.min_free_inodes
        if room.free_inodes is not None and room.free_inodes < least:
            return (
                f"{where} has room for {room.free_inodes} files and must have it for {least} "
                "(CondaStore.min_free_inodes); delete builds that nobody needs, or make room"
            )
        return None


def is_full(error: BaseException) -> bool:
    """Whether a failure says that the disk, or somebody's share of it, is full."""
    return isinstance(error, OSError) and error.errno in NO_SPACE


def _give_up(reserve: Path) -> None:
    # Another daemon that shares the store may do the same at this moment. What even a full disk
    # does not let go is tried again by the next look.
    with suppress(OSError):
        for file in list(reserve.iterdir()):
            with suppress(OSError):
                file.unlink()
        reserve.rmdir()
        logger.warning("the disk is full: the reserve %s is given up", reserve)


def _broken_devices() -> set[int]:
    """Returns the numbers of those that Linux 6.14 and newer show as writable all the same."""
    found = set()
    with suppress(OSError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if BROKEN & set(fields[-1].split(",")):
                major, minor = fields[2].split(":")
                found.add(os.makedev(int(major), int(minor)))
    return found


def _takes(room: Room, size: int) -> bool:
    """Whether so many bytes may be written there now, also by a quota."""
    trial = room.directory / f"{RESERVE}.new"
    try:
        _allocate(trial, size)
    except OSError as error:
        return error.errno not in NO_SPACE
    finally:
        with suppress(OSError):
            trial.unlink()
    return True


def _is_whole(reserve: Path) -> bool:
    try:
        return len(os.listdir(reserve)) >= RESERVE_FILES
    except OSError:
        return False


def _allocate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)


def _amount(size: int) -> str:
    return f"{size} bytes" if size < 10**6 else f"{size / 10**6:.0f} MB"
