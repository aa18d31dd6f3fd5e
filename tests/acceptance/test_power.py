"""The power is cut at the moment of an answer: what it promises is there (I1, I2, I4).

`scripts/crash-matrix --action power` cuts it at each fault point.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import assert_becomes_clean, eventually
from tests.acceptance.oracle import findings
from tests.acceptance.power import NEEDS, Disk, PoweredDaemon, disk
from tests.acceptance.stories import specification, stopped

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason=NEEDS)


@pytest.fixture
def powered(tmp_path: Path) -> Iterator[Disk]:
    with disk(tmp_path) as found:
        yield found


@pytest.mark.sqlite
def test_what_was_answered_survives_power_cuts(powered: Disk, tiny: str) -> None:
    wanted = specification(tiny, "harmless")
    with stopped(powered.path / "data", daemons=PoweredDaemon) as daemon:
        daemon.start()
        removed = daemon.submit({**wanted, "name": "removed"})
        build_id = daemon.submit(wanted)
        powered.cut(daemon)

        daemon.start()
        # One after the other: soon the kernel writes what is old by itself.
        for queued in (removed, build_id):
            daemon.completed(queued)
        powered.cut(daemon)

        daemon.start()
        build = daemon.build(build_id)
        assert build["status"] == "COMPLETED"
        keys = {row["artifact_type"]: row["key"] for row in build["build_artifacts"]}
        assert os.readlink(daemon.link("survivor")) == keys["DIRECTORY"]
        assert (daemon.link("survivor") / "share/harmless").read_text() == "attacked"
        assert daemon.log(build_id).endswith("\n")
        assert daemon.request("DELETE", "/environment/default/removed/").status_code == 200
        powered.cut(daemon)

        daemon.start()
        eventually(lambda: daemon.request("GET", f"/build/{removed}/").status_code == 404)
        assert not daemon.link("removed").is_symlink()
        assert_becomes_clean(daemon)
        assert daemon.stop() == 0
        assert findings(daemon, "--hashes") == []
