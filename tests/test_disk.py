"""Room on the disk: what is measured, when it is too little, and the reserve."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from condastore import disk as module
from condastore.configuration import CondaStore
from condastore.disk import RESERVE, RESERVE_FILES, ROOMY_BYTES, Disk, is_full
from condastore.errors import DiskFull
from devtools.filesystems import break_ext4, limit_btrfs, read_only
from tests.mounts import mounted


def disk(directory: Path, **limits: Any) -> Disk:
    places = {
        "CondaStore.data_directory": directory,
        "CondaStore.store_directory": directory / "not there yet",
    }
    return Disk(CondaStore(data_directory=str(directory), **limits), places)


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


def test_the_reserve_stays_while_there_is_too_little(tmp_path: Path) -> None:
    config = CondaStore(data_directory=str(tmp_path), min_free_bytes=1, min_free_inodes=1)
    found = Disk(config, {"CondaStore.data_directory": tmp_path})
    found.look()
    config.min_free_bytes = 2**62
    found.look()
    assert found.problem is not None
    assert (tmp_path / RESERVE).is_dir()
    config.min_free_bytes = 1
    found.look()
    assert found.problem is None


def test_a_file_system_that_becomes_read_only_keeps_its_reserve(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 64):
        found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
        found.look()
        with read_only(tmp_path):
            found.doubt()
            found.look()
            assert found.problem is not None and "is mounted read-only" in found.problem
            assert (tmp_path / RESERVE).is_dir()
        found.look()
        assert found.problem is None


def test_F29_an_ext4_with_an_error_takes_nothing(tmp_path: Path) -> None:
    """Newer kernels say so in its options only."""
    with mounted("ext4", tmp_path / "small", 64, "errors=remount-ro") as small:
        found = disk(small, min_free_bytes=1, min_free_inodes=1)
        found.look()
        assert found.problem is None
        break_ext4(small)
        found.look()
        assert found.problem is not None and "read-only" in found.problem
        assert "fsck" in found.problem


def test_a_reserve_that_does_not_go_hides_no_problem(tmp_path: Path) -> None:
    """As when another daemon gives it up at the same time, or a quota lets nothing be removed."""
    with mounted("tmpfs", tmp_path, 64):
        found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
        found.look()
        reserve = tmp_path / RESERVE
        (reserve / "directory").mkdir()
        with (tmp_path / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(2**20))
        found.look()
        assert found.problem is not None
        assert os.listdir(reserve) == ["directory"]
        (reserve / "directory").rmdir()
        (tmp_path / "filler").unlink()
        found.look()
        assert found.problem is None and len(os.listdir(reserve)) == RESERVE_FILES


def test_a_small_file_system_keeps_its_room(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 16):
        disk(tmp_path, min_free_bytes=1, min_free_inodes=1).look()
        assert not (tmp_path / RESERVE).exists()


def test_a_reserve_is_whole_or_not_there(tmp_path: Path) -> None:
    with mounted("tmpfs", tmp_path, 64, f"nr_inodes={RESERVE_FILES + 1}"):
        found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
        found.look()
        assert found.problem is None and not found.rooms[0].is_exhausted
        assert not (tmp_path / RESERVE).exists()
    found.look()
    assert len(os.listdir(tmp_path / RESERVE)) == RESERVE_FILES
    (tmp_path / RESERVE / "3").unlink()
    found.look()
    assert len(os.listdir(tmp_path / RESERVE)) == RESERVE_FILES


@pytest.mark.parametrize("when", ["something is not written", "a daemon starts"])
def test_F24_a_quota_that_is_used_up_is_found_out(tmp_path: Path, when: str) -> None:
    """The file system says nothing of it, and to try costs something."""
    with mounted("btrfs", tmp_path / "small", 256) as small:
        found = disk(small, min_free_bytes=1, min_free_inodes=1)
        found.look()
        limit_btrfs(small, "8M")
        with (small / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError):
            while True:
                filler.write(bytes(4096))
        found.look()
        assert found.problem is None and (small / RESERVE).is_dir()
        if when == "a daemon starts":
            found = disk(small, min_free_bytes=1, min_free_inodes=1)
        else:
            found.doubt()
        for _ in range(3):
            found.look()
            assert not (small / RESERVE).exists()
            assert found.problem is not None and "quota" in found.problem
        limit_btrfs(small, f"{8 * 2**20 + ROOMY_BYTES}")
        found.look()
        assert found.problem is None
        assert len(os.listdir(small / RESERVE)) == RESERVE_FILES
        assert sorted(os.listdir(small)) == [RESERVE, "filler"]


def test_a_doubt_that_was_for_nothing_costs_no_reserve(tmp_path: Path) -> None:
    found = disk(tmp_path, min_free_bytes=1, min_free_inodes=1)
    found.look()
    found.doubt()
    found.look()
    assert found.problem is None and (tmp_path / RESERVE).is_dir()


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
