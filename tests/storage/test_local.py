"""Artifacts as files."""

import asyncio
import os
from pathlib import Path

import pytest

from condastore.storage import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(storage_path=str(tmp_path / "storage"))


async def read(storage: LocalStorage, key: str, offset: int = 0) -> bytes:
    return b"".join([piece async for piece in storage.read(key, offset)])


async def test_what_is_put_can_be_read_from_any_offset(storage: LocalStorage) -> None:
    data = os.urandom(700_000)
    await storage.put_bytes("yaml/a.yml", data)
    assert await storage.size("yaml/a.yml") == len(data)
    for offset in (0, 1, 262_144, len(data) - 1, len(data), len(data) + 5):
        assert await read(storage, "yaml/a.yml", offset) == data[offset:]


async def test_a_file_is_copied_and_replaces_what_was_there(
    storage: LocalStorage, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    for text in (b"long enough", b"short"):
        source.write_bytes(text)
        await storage.put_file("logs/a.log", source)
        assert await read(storage, "logs/a.log") == text
    source.write_bytes(b"changed later")
    assert await read(storage, "logs/a.log") == b"short"
    assert os.listdir(tmp_path / "storage" / "logs") == ["a.log"]


async def test_what_is_not_there_has_no_size_and_can_not_be_read(
    storage: LocalStorage, tmp_path: Path
) -> None:
    assert await storage.size("logs/none.log") is None
    assert await storage.delete("logs/none.log") == 0
    with pytest.raises(FileNotFoundError):
        await read(storage, "logs/none.log")
    with pytest.raises(FileNotFoundError):
        await storage.put_file("logs/none.log", tmp_path / "none")
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("*.new")))


async def test_deleting_says_what_came_free(storage: LocalStorage) -> None:
    await storage.put_bytes("logs/a.log", b"12345")
    assert await storage.delete("logs/a.log") == 5
    assert await storage.size("logs/a.log") is None
    assert await storage.delete("logs/a.log") == 0


async def test_readers_see_the_old_or_the_new_and_nothing_else(storage: LocalStorage) -> None:
    old, new = b"o" * 600_000, b"n" * 600_000
    await storage.put_bytes("yaml/a.yml", old)

    async def replace() -> None:
        for number in range(20):
            await storage.put_bytes("yaml/a.yml", (old, new)[number % 2])

    replacing = asyncio.create_task(replace())
    while not replacing.done():
        assert await read(storage, "yaml/a.yml") in (old, new)
    await replacing


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "logs/../../x", "logs//x", "..", "logs/.", "a/", "./a"]
)
async def test_a_key_never_leaves_the_storage(storage: LocalStorage, key: str) -> None:
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.put_bytes(key, b"x")
    with pytest.raises(ValueError, match="not a storage key"):
        await storage.size(key)


async def test_keys_that_no_file_system_takes_are_kept_apart(storage: LocalStorage) -> None:
    for letter in "ab":
        await storage.put_bytes(f"yaml/{'x' * 300}{letter}.yml", letter.encode())
    assert await read(storage, f"yaml/{'x' * 300}a.yml") == b"a"
    assert await read(storage, f"yaml/{'x' * 300}b.yml") == b"b"


async def test_a_part_can_be_read(storage: LocalStorage) -> None:
    data = os.urandom(700_000)
    await storage.put_bytes("yaml/a.yml", data)
    for offset, length in ((0, 1), (5, 600_000), (699_999, 1), (699_999, 50), (3, 0)):
        pieces = [piece async for piece in storage.read("yaml/a.yml", offset, length)]
        assert b"".join(pieces) == data[offset : offset + length]


async def test_other_bytes_have_another_version(storage: LocalStorage) -> None:
    assert await storage.stat("yaml/a.yml") is None
    versions = set()
    for data in (b"1", b"2", b"22", b"1"):
        await storage.put_bytes("yaml/a.yml", data)
        found = await storage.stat("yaml/a.yml")
        assert found is not None
        assert found.size == len(data)
        assert '"' not in found.version
        versions.add(found.version)
    assert len(versions) == 4
    assert await storage.url("yaml/a.yml", media_type="text/yaml", filename=None) is None


async def test_everything_below_a_folder_is_listed(storage: LocalStorage) -> None:
    assert [found async for found in storage.ages("blobs")] == []
    keys = {"blobs/sha256/00/a", "blobs/sha256/00/b", "blobs/sha256/ff/c"}
    for key in [*keys, "logs/a.log"]:
        await storage.put_bytes(key, b"x")
    ages = {key: age_s async for key, age_s in storage.ages("blobs")}
    assert ages.keys() == keys
    assert all(-1 < age_s < 60 for age_s in ages.values())


async def test_what_was_written_lately_is_not_removed_as_old(
    storage: LocalStorage, tmp_path: Path
) -> None:
    assert await storage.delete_older("blobs/a", 10) == 0
    await storage.put_bytes("blobs/a", b"12345")
    assert await storage.delete_older("blobs/a", 10) == 0
    assert await read(storage, "blobs/a") == b"12345"
    path = tmp_path / "storage/blobs/a"
    os.utime(path, (path.stat().st_mtime - 20,) * 2)
    assert await storage.delete_older("blobs/a", 10) == 5
    assert await storage.size("blobs/a") is None
    left = await asyncio.to_thread(lambda: list((tmp_path / "storage/.unfinished").iterdir()))
    assert left == []
