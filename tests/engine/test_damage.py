"""Packages of the store that a disk can't read any more (F25)."""

import errno
import shutil
from pathlib import Path

import pytest

from devtools.filesystems import WITHOUT_EXTENTS, lose_block
from tests.engine.conftest import Place, run
from tests.engine.test_store import packages, record_of
from tests.mounts import mounted


@pytest.mark.parametrize("lost", ["info/paths.json", "share/harmless"])
def test_F25_a_package_that_can_not_be_read_is_fetched_again(
    tmp_path: Path, hostile_channel: Path, lost: str
) -> None:
    record = record_of(hostile_channel, hostile_channel, "harmless")
    with mounted("ext4", tmp_path / "disk", 32, made_with=WITHOUT_EXTENTS) as disk:
        place = Place(disk)
        # With scripts, all files are copied, and so read.
        assert place.build([record], link_scripts=True).result
        shutil.rmtree(place.prefix)
        entry = place.packages / "store" / record["sha256"]
        lose_block(disk, entry / lost)
        with pytest.raises(OSError) as unreadable:
            (entry / lost).read_bytes()
        assert unreadable.value.errno == errno.EIO
        verified = run({"v": 1, "job": "verify", "packages_dir": str(place.packages)})
        [told] = [event for event in verified.events if event["t"] == "damaged"]
        assert told["files"] == [{"path": lost, "problem": "can't be read: Input/output error"}]

        outcome = place.build([record], link_scripts=True)

        assert outcome.result
        assert (place.prefix / "share/harmless").read_text() == "attacked"
        [damaged] = [event for event in outcome.events if event["t"] == "damaged"]
        assert (damaged["sha256"], damaged["files"]) == (record["sha256"], told["files"])
        assert f"{lost} can't be read: Input/output error; it was moved to " in outcome.log
        # The bad block stays where nothing uses it.
        [aside] = (disk / ".lost").glob(f"store-{record['sha256']}-*")
        assert (aside / lost).is_file()
        assert packages(place) == [record["sha256"]]
        assert entry.with_name(f"{entry.name}.durable").exists()
        assert place.litter() == []
