"""Room on the disk: what is measured, when it is too little, and the reserve."""

import asyncio
import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from condastore import disk as module
from condastore.configuration import CondaStore
from condastore.disk import RESERVE, RESERVE_BYTES, RESERVE_FILES, ROOMY_BYTES, Disk, is_full
from condastore.errors import DiskFull


def disk(directory: Path, **limits: Any) -> Disk:
    places = {
        "CondaStore.data_directory": directory,
        "CondaStore.store_directory": directory / "not there yet",
    }
    return Disk(CondaStore(data_directory=str(directory), **limits), places)


@contextmanager
def mounted(directory: Path, *options: str) -> Iterator[Path]:
    mount = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small file system")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_enough_room_is_no_problem_and_a_reserve_is_made(tmp_path: Path) -> None:
    found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
    found.look()
    found.require()
    assert len(list((tmp_path / RESERVE).iterdir())) == RESERVE_FILES
    (room,) = found.rooms
    assert room.settings == ("CondaStore.data_directory",)


@pytest.mark.parametrize("limit", ["min_free_bytes", "min_free_inodes"])
def test_too_little_is_refused_and_says_which_setting_it_is(tmp_path: Path, limit: str) -> None:
    found = disk(tmp_path, **{limit: 2**62})
    found.look()
    if limit == "min_free_inodes" and found.rooms[0].free_inodes is None:
        pytest.skip("this file system makes as many inodes as are needed")
    with pytest.raises(DiskFull, match=rf"CondaStore\.data_directory .*CondaStore\.{limit}"):
        found.require()
    assert not (tmp_path / RESERVE).exists()


def test_the_reserve_stays_while_there_is_too_little_and_goes_when_nothing_can_be_written(
    tmp_path: Path,
) -> None:
    config = CondaStore(data_directory=str(tmp_path), min_free_bytes=1, min_free_inodes=1)
    found = Disk(config, {"CondaStore.data_directory": tmp_path})
    found.look()
    config.min_free_bytes = 2**62
    found.look()
    assert found.problem is not None
    assert (tmp_path / RESERVE).is_dir()
    found.exhausted()
    found.look()
    assert not (tmp_path / RESERVE).exists()
    config.min_free_bytes = 1
    found.look()
    assert found.problem is None
    assert (tmp_path / RESERVE).is_dir()


def test_a_file_system_that_becomes_read_only_keeps_its_reserve(tmp_path: Path) -> None:
    with mounted(tmp_path, "size=64m"):
        found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
        found.look()
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        # As something else says that is full.
        found.exhausted()
        found.look()
        assert found.problem is not None and "read-only" in found.problem
        assert (tmp_path / RESERVE).is_dir()


def test_a_file_system_that_is_mounted_read_only(tmp_path: Path) -> None:
    with mounted(tmp_path, "size=64m", "ro"):
        found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
        found.look()
        with pytest.raises(DiskFull, match="is mounted read-only"):
            found.require()


def test_a_small_file_system_keeps_its_room(tmp_path: Path) -> None:
    with mounted(tmp_path, "size=16m"):
        disk(tmp_path, min_free_bytes=1, min_free_inodes=1).look()
        assert not (tmp_path / RESERVE).exists()


def test_a_reserve_is_whole_or_not_there(tmp_path: Path) -> None:
    with mounted(tmp_path, "size=64m", f"nr_inodes={RESERVE_FILES + 1}"):
        found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
        found.look()
        assert found.problem is None and not found.rooms[0].is_exhausted
        assert not (tmp_path / RESERVE).exists()
    found.look()
    assert len(os.listdir(tmp_path / RESERVE)) == RESERVE_FILES
    (tmp_path / RESERVE / "3").unlink()
    found.look()
    assert len(os.listdir(tmp_path / RESERVE)) == RESERVE_FILES


def test_a_reserve_does_not_come_back_while_a_quota_is_all_but_used_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F24: the file system says nothing of it."""
    left = 2 * RESERVE_BYTES
    allocate = os.posix_fallocate

    def within_quota(fd: int, offset: int, length: int) -> None:
        if length > left:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        allocate(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", within_quota)
    found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
    found.look()
    assert (tmp_path / RESERVE).is_dir()
    found.exhausted()
    for _ in range(3):
        found.look()
        assert not (tmp_path / RESERVE).exists()
    left = ROOMY_BYTES
    found.look()
    assert len(os.listdir(tmp_path / RESERVE)) == RESERVE_FILES


def test_a_full_share_is_a_full_disk() -> None:
    assert is_full(OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert is_full(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_full(OSError(errno.EIO, "Input/output error"))
    assert not is_full(ValueError())


async def test_changes_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.01)
    monkeypatch.setattr(module, "PERIOD_WITHOUT_ROOM_S", 0.01)
    config = CondaStore(data_directory=str(tmp_path), min_free_bytes=1, min_free_inodes=1)
    found = Disk(config, {"CondaStore.data_directory": tmp_path})
    told: asyncio.Queue[str | None] = asyncio.Queue()
    looking = asyncio.create_task(found.run(lambda: told.put_nowait(found.problem)))
    async with asyncio.timeout(60):
        config.min_free_bytes = 2**62
        assert "min_free_bytes" in (await told.get() or "")
        config.min_free_bytes = 1
        assert await told.get() is None
    looking.cancel()
    await asyncio.wait([looking])
