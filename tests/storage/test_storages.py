"""What every storage promises, held against each of them."""

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from condastore.storage import LocalStorage, Storage
from condastore.storage.outbox import Outbox
from tests.storage.storages import bucket_of


@pytest.fixture(params=["files", "s3", "outbox"])
async def storage(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Storage]:
    """An empty storage of each kind."""
    if request.param == "files":
        found: Storage = LocalStorage(storage_path=str(tmp_path / "storage"))
    else:
        found = await bucket_of(request.getfixturevalue("s3_server"))
    if request.param == "outbox":
        found = Outbox(found, tmp_path / "unstored")
    await found.open()
    yield found
    await found.close()


async def read(storage: Storage, key: str, offset: int = 0, length: int | None = None) -> bytes:
    return b"".join([piece async for piece in storage.read(key, offset, length)])


async def test_what_is_put_can_be_read_from_any_offset(storage: Storage) -> None:
    data = os.urandom(700_000)
    await storage.put_bytes("yaml/a.yml", data)
    assert await storage.size("yaml/a.yml") == len(data)
    for offset in (0, 1, 262_144, len(data) - 1, len(data), len(data) + 5):
        assert await read(storage, "yaml/a.yml", offset) == data[offset:]
        for length in (0, 1, 300_000):
            piece = data[offset : offset + length]
            assert await read(storage, "yaml/a.yml", offset, length) == piece


async def test_a_file_is_copied_and_replaces_what_was_there(
    storage: Storage, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for text in (b"long enough", b"short"):
        source.write_bytes(text)
        await storage.put_file("logs/a.log", source)
        assert await read(storage, "logs/a.log") == text
    source.write_bytes(b"changed later")
    assert await read(storage, "logs/a.log") == b"short"
    assert [key async for key, _ in storage.ages("logs")] == ["logs/a.log"]


async def test_what_is_not_there_has_no_size_and_can_not_be_read(
    storage: Storage, tmp_path: Path
) -> None:
    assert await storage.size("logs/none.log") is None
    assert await storage.delete("logs/none.log") == 0
    with pytest.raises(FileNotFoundError):
        await read(storage, "logs/none.log")
    with pytest.raises(FileNotFoundError):
        await storage.put_file("logs/none.log", tmp_path / "none")
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("*.new")))


async def test_deleting_says_what_came_free(storage: Storage) -> None:
    await storage.put_bytes("logs/a.log", b"12345")
    assert await storage.delete("logs/a.log") == 5
    assert await storage.size("logs/a.log") is None
    assert await storage.delete("logs/a.log") == 0


async def test_readers_see_the_old_or_the_new_and_nothing_else(tmp_path: Path) -> None:
    # S3 promises it too, but not the server of these tests.
    storage = LocalStorage(storage_path=str(tmp_path / "storage"))
    old, new = b"o" * 600_000, b"n" * 600_000
    await storage.put_bytes("yaml/a.yml", old)

    async def replace() -> None:
        for number in range(20):
            await storage.put_bytes("yaml/a.yml", (old, new)[number % 2])

    replacing = asyncio.create_task(replace())
    while not replacing.done():
        assert await read(storage, "yaml/a.yml") in (old, new)
    await replacing


async def test_a_key_never_leaves_the_storage(storage: Storage) -> None:
    for key in ("", "/etc/passwd", "logs/../../x", "logs//x", "..", "logs/.", "a/", "./a"):
        with pytest.raises(ValueError, match="not a storage key"):
            await storage.put_bytes(key, b"x")
        with pytest.raises(ValueError, match="not a storage key"):
            await storage.size(key)


async def test_keys_that_no_file_system_takes_are_kept_apart(storage: Storage) -> None:
    for letter in "ab":
        await storage.put_bytes(f"yaml/{'x' * 300}{letter}.yml", letter.encode())
    assert await read(storage, f"yaml/{'x' * 300}a.yml") == b"a"
    assert await read(storage, f"yaml/{'x' * 300}b.yml") == b"b"


async def test_a_moved_file_is_there_and_not_where_it_was(storage: Storage, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"moved")
    await storage.move_file("archive/a.tar.gz", source)
    assert await read(storage, "archive/a.tar.gz") == b"moved"
    assert not source.exists()


async def test_other_bytes_are_another_version(storage: Storage) -> None:
    versions = []
    for data in (b"one", b"two", b"three"):
        await storage.put_bytes("yaml/a.yml", data)
        stored = await storage.stat("yaml/a.yml")
        assert stored is not None and stored.size == len(data)
        versions.append(stored.version)
    assert len(set(versions)) == 3


async def test_ages_are_of_the_keys_below_a_folder(storage: Storage) -> None:
    for key in ("blobs/sha256/aa/1", "blobs/sha256/ab/2", "yaml/a.yml"):
        await storage.put_bytes(key, b"x")
    ages = {key: age async for key, age in storage.ages("blobs")}
    assert set(ages) == {"blobs/sha256/aa/1", "blobs/sha256/ab/2"}
    assert all(-2 < age < 60 for age in ages.values())
    assert [key async for key, _ in storage.ages("none")] == []


async def test_nothing_at_all_can_be_stored(storage: Storage) -> None:
    await storage.put_bytes("yaml/empty.yml", b"")
    assert await storage.size("yaml/empty.yml") == 0
    assert await read(storage, "yaml/empty.yml") == b""


async def test_only_what_is_old_enough_is_deleted(storage: Storage) -> None:
    await storage.put_bytes("blobs/sha256/aa/1", b"layer")
    assert await storage.delete_older("blobs/sha256/aa/1", 3600) == 0
    assert await storage.size("blobs/sha256/aa/1") == 5
    assert await storage.delete_older("blobs/sha256/aa/1", -5) == 5
    assert await storage.size("blobs/sha256/aa/1") is None
    assert await storage.delete_older("blobs/sha256/aa/1", -5) == 0


async def test_what_is_not_old_enough_stays_where_there_are_no_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F27"""
    storage = LocalStorage(storage_path=str(tmp_path))
    await storage.put_bytes("blobs/sha256/aa/1", b"layer")

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    assert await storage.delete_older("blobs/sha256/aa/1", 3600) == 0
    assert await read(storage, "blobs/sha256/aa/1") == b"layer"
    assert list((tmp_path / ".unfinished").iterdir()) == []


async def test_a_daemon_that_starts_leaves_alone_what_another_one_makes(tmp_path: Path) -> None:
    root = tmp_path / "storage"
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    one, two = (LocalStorage(storage_path=str(root)) for _ in range(2))
    await one.open()
    copying = asyncio.create_task(one.put_file("logs/a.log", pipe))
    writer = await asyncio.to_thread(pipe.open, "wb")
    try:
        async with asyncio.timeout(20):
            while not list(root.rglob("*.new")):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await two.open()
        writer.write(b"text")
    finally:
        writer.close()
    await copying
    assert await read(two, "logs/a.log") == b"text"
    await two.close()
    await one.close()


async def test_what_a_daemon_left_that_died_goes_at_the_next_start(tmp_path: Path) -> None:
    root = tmp_path / "storage"
    die = (
        "import asyncio, os, sys; from condastore.storage import LocalStorage;"
        "storage = LocalStorage(storage_path=sys.argv[1]); asyncio.run(storage.open());"
        "open(storage._unfinished / 'half.new', 'w').close(); os._exit(0)"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", die, str(root)], check=True)
    (root / ".unfinished" / "of-an-older-version.new").touch()
    assert len(list(root.rglob("*.new"))) == 2
    storage = LocalStorage(storage_path=str(root))
    await storage.open()
    assert not list(root.rglob("*.new"))
    await storage.close()
    assert [path.name for path in (root / ".unfinished").iterdir()] == ["lock"]
