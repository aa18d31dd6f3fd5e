"""Unpacking a piece at a time."""

import bz2
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from condastore.engine.index.compression import PIECE_BYTES, READS_ZSTD, Damaged, pieces

PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "bz2": bz2.compress,
    "gzip": gzip.compress,
    "zst": zstandard.compress,
}
TEXT = b"".join(b"%d," % number for number in range(500_000))


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_this_machine_reads_zstd() -> None:
    assert READS_ZSTD


@pytest.mark.parametrize("encoding", PACKED)
def test_what_was_packed_comes_out_in_pieces(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "file", PACKED[encoding](TEXT))
    found = list(pieces(path, encoding))
    assert b"".join(found) == TEXT
    assert max(map(len, found)) <= PIECE_BYTES


@pytest.mark.parametrize("encoding", ["bz2", "gzip", "zst"])
@pytest.mark.parametrize("damage", ["garbage", "cut off", "turned"])
def test_damage_is_seen(tmp_path: Path, encoding: str, damage: str) -> None:
    data = PACKED[encoding](TEXT)
    middle = len(data) // 2
    damaged = {
        "garbage": b"this is nothing that was packed" * 10,
        "cut off": data[:middle],
        "turned": data[:middle] + bytes(100) + data[middle + 100 :],
    }
    if (encoding, damage) == ("zst", "turned"):
        damaged[damage] = data[:4] + b"\xff\xff" + data[6:]
    with pytest.raises(Damaged):
        list(pieces(write(tmp_path / "file", damaged[damage]), encoding))


def test_several_frames_are_one_file(tmp_path: Path) -> None:
    """As `cat` and parallel compressors make them."""
    path = write(tmp_path / "file", zstandard.compress(b"one ") + zstandard.compress(b"two"))
    assert b"".join(pieces(path, "zst")) == b"one two"


def test_a_bomb_is_unpacked_a_piece_at_a_time(tmp_path: Path) -> None:
    path = write(tmp_path / "file", zstandard.compress(bytes(200 << 20)))
    unpacked = pieces(path, "zst")
    assert len(next(unpacked)) == PIECE_BYTES
    unpacked.close()  # type: ignore[attr-defined]
