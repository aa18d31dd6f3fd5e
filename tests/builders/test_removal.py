"""The package store is put in order when a daemon starts."""

import logging
from pathlib import Path

import pytest

from condastore.builders.removal import sweep_at_start
from condastore.configuration import CondaStore
from condastore.prefixes import Store


async def test_what_dead_builds_left_is_swept(tmp_path: Path) -> None:
    store = Store.of(CondaStore(data_directory=str(tmp_path)))
    store.make()
    left = store.packages / "work" / "left"
    left.mkdir(parents=True)
    await sweep_at_start(store)
    assert not left.exists()


async def test_a_store_that_is_away_does_not_end_the_daemon(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        await sweep_at_start(Store.of(CondaStore(data_directory=str(tmp_path / "none"))))
    assert "the package store could not be swept" in caplog.text
