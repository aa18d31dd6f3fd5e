"""One daemon per directory."""

import asyncio
import errno
import logging
import os
import re
import shutil
import stat
import subprocess
import sys
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any, cast

import pytest

from condastore.errors import ConfigurationError, NotYet
from condastore.locks import DirectoryLock, alone_with
from condastore.storage import LocalStorage
from tests.mounts import mounted
from tests.patience import PATIENCE_S

HOLDER = """
import sys
from pathlib import Path
from condastore.locks import DirectoryLock
lock = DirectoryLock(Path(sys.argv[1]))
lock.acquire()
print("held", lock.identity(), flush=True)
sys.stdin.read()
"""


def hold(path: Path) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline().startswith("held")
    return holder


def test_another_process_is_refused_and_told_whom_it_met(tmp_path: Path) -> None:
    path = tmp_path / "data" / "daemon.lock"
    with hold(path) as holder:
        with pytest.raises(ConfigurationError, match=f"process {holder.pid}.*data_directory"):
            DirectoryLock(path).acquire()
        holder.kill()
        holder.wait()
        # However it ended, the lock went with it.
        lock = DirectoryLock(path)
        lock.acquire()
        lock.release()


def test_a_released_lock_lets_another_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = DirectoryLock(path), DirectoryLock(path)
    first.acquire()
    with pytest.raises(ConfigurationError):
        second.acquire()
    first.release()
    first.release()
    second.acquire()
    second.release()


def test_who_has_a_directory_knows_who_had_it_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data" / "daemon.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as dead:
        assert dead.stdout is not None
        former = dead.stdout.read().split()[1]
    assert identity_of(path) == former
    assert len(former) <= 47

    # A copy is another directory, whose daemon may run beside the first one's.
    shutil.copytree(path.parent, tmp_path / "copy", copy_function=shutil.copy2)
    assert identity_of(tmp_path / "copy" / path.name) != former
    # So may one on another machine, where the numbers of a file mean nothing.
    (tmp_path / "boot_id").write_text("another")
    monkeypatch.setattr("condastore.locks._BOOT", tmp_path / "boot_id")
    another = identity_of(path)
    assert another == identity_of(path) != former
    monkeypatch.setattr("condastore.locks._BOOT", tmp_path / "missing")
    assert identity_of(path) not in (former, another)


def identity_of(path: Path) -> str:
    lock = DirectoryLock(path)
    lock.acquire()
    try:
        return lock.identity()
    finally:
        lock.release()


async def test_a_lock_that_somebody_keeps_is_told_of_and_can_be_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: asyncio.Queue[logging.LogRecord] = asyncio.Queue()
    monkeypatch.setattr("condastore.locks.logger.handlers", [QueueHandler(cast(Any, told))])
    monkeypatch.setattr("condastore.locks.LONG_S", 0)
    path = tmp_path / "locks" / "one"

    async def wait() -> None:
        async with alone_with(path):
            raise AssertionError("two have it")

    async with alone_with(path):
        keeper = rf"process {os.getpid()} on .*{path}.*Continue or kill"
        with pytest.raises(TimeoutError, match=keeper):
            async with alone_with(path, 0):
                raise AssertionError("two have it")
        waiting = asyncio.create_task(wait())
        async with asyncio.timeout(PATIENCE_S):
            assert re.search(keeper, (await told.get()).getMessage())
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
    async with alone_with(path, 0):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_lock_that_everybody_could_have_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(0o644)
    lock = DirectoryLock(path)
    lock.acquire()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    lock.release()


def test_a_place_that_can_not_be_written_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"can't be used.*store_directory"):
        DirectoryLock(Path("/proc/nothing/lock")).acquire()


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.ENOLCK, ConfigurationError, "can't be locked: No locks available; set"),
        (errno.EIO, NotYet, "can't be locked now: Input/output error; mend that"),
        (errno.ESTALE, NotYet, "can't be locked now: Stale file handle; mend that"),
    ],
)
def test_a_file_system_that_can_not_lock_says_what_to_do(
    number: int,
    kind: type[ConfigurationError],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.raises(ConfigurationError, match=said) as failed:
        DirectoryLock(tmp_path / "lock").acquire()
    assert type(failed.value) is kind


async def test_a_full_file_system_may_have_room_later(tmp_path: Path) -> None:
    """So the daemon is started again, and nobody has to mend its settings."""
    with mounted("tmpfs", tmp_path / "small", 1, "nr_inodes=1") as full:
        with pytest.raises(NotYet, match="can't be used now: No space left"):
            DirectoryLock(full / "data" / "lock").acquire()
        with pytest.raises(NotYet, match="can't be used now: No space left"):
            await LocalStorage(storage_path=str(full / "storage")).open()
