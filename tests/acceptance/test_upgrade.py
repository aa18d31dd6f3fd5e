"""An upgrade of a database whose builds wait and run, by a daemon that dies within it (F15, F16,
F96)."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from condastore.migrations import HEAD
from tests.acceptance.harness import DaemonDied, assert_becomes_clean
from tests.acceptance.stories import OF_UPGRADES, dies, specification, stopped
from tests.databases import FIRST, make_old

NOW = "2026-01-01 00:00:00"
VERSION = "SELECT version_num FROM alembic_version"


def rows(spec: dict[str, object]) -> list[str]:
    """Returns what inserts a build that waits and one that runs, as the first schema has them."""
    text = json.dumps(spec).replace(":", r"\:")
    build = "specification_id, environment_id, size, scheduled_on, build_key_version"
    task = "kind, namespace, payload, priority, not_before, cancel_requested, created_on"
    of_task = f"'build', 'default', '{{}}', 0, 0, false, '{NOW}'"
    return [
        "INSERT INTO namespace (name) VALUES ('default')",
        "INSERT INTO specification (name, spec, sha256, created_on, is_lockfile) "
        f"VALUES ('survivor', '{text}', '{'0' * 64}', '{NOW}', false)",
        "INSERT INTO environment (namespace_id, name) VALUES (1, 'waits'), (1, 'runs')",
        f"INSERT INTO build ({build}, status, started_on) VALUES "
        f"(1, 1, 0, '{NOW}', 2, 'QUEUED', NULL), (1, 2, 0, '{NOW}', 2, 'BUILDING', '{NOW}')",
        f"INSERT INTO task ({task}, build_id, state, attempts, lease_owner, lease_until) VALUES "
        f"({of_task}, 1, 'QUEUED', 0, NULL, NULL), ({of_task}, 2, 'RUNNING', 1, 'old-one', 1.0)",
    ]


def test_F96_builds_of_the_old_version_are_finished_whenever_an_upgrade_dies(
    tmp_path: Path, tiny: str
) -> None:
    with stopped(tmp_path / "data") as daemon:
        daemon.data.mkdir()
        asyncio.run(make_old(daemon.database_url, rows(specification(tiny, "harmless"))))
        for point in OF_UPGRADES:
            if point == "upgrade.copied" and not daemon.database_url.startswith("sqlite"):
                continue
            with pytest.raises(DaemonDied):
                daemon.start(CONDASTORE_FAULT=f"{point}:1:kill")
            dies(daemon)
            assert daemon.query(VERSION) == [(FIRST,)], point
            left = [name for name in os.listdir(daemon.data) if name.endswith(".new")]
            assert left == [f"condastore.sqlite.{FIRST}.new"] * (point == "upgrade.copied")

        daemon.start()
        assert daemon.query(VERSION) == [(HEAD,)]
        for build_id in (1, 2):
            daemon.completed(build_id)
            assert daemon.log(build_id)
        for name in ("waits", "runs"):
            assert (daemon.link(name) / "share/harmless").read_text() == "attacked"
        states = "SELECT build_id, state, attempts, deaths FROM task WHERE kind = 'build'"
        assert sorted(daemon.query(states)) == [(1, "DONE", 1, 0), (2, "DONE", 2, 1)]
        assert_becomes_clean(daemon)
