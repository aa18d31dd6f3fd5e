"""Which channel is looked at when, and what is remembered and told of it."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select

from condastore.configuration import CondaStore
from condastore.database import Database
from condastore.indexer import LONGEST_RETRY_S, RETRY_S, ChannelState, Indexer
from condastore.package_index import PackageIndex, PackageQuery
from condastore.prefixes import Store
from condastore.setting_rows import configured
from condastore.tables import CondaChannel, KeyValueStore, utcnow
from devtools.localchannel.server import Fault, serve
from tests.channels import write_channel
from tests.engine.conftest import wait_until
from tests.patience import PATIENCE_S


class Scene:
    """An indexer on a directory; what it is to index is a setting."""

    def __init__(self, database: Database, root: Path) -> None:
        self.database = database
        self.config = CondaStore(data_directory=str(root), conda_indexed_channels=[])
        self.store = Store.of(self.config)
        self.store.make()
        self.index = PackageIndex(root / "index" / "packages.sqlite")
        defaults = configured(self.config)
        self.indexer = Indexer(self.config, defaults, database, self.store, self.index, 900)

    async def choose(self, *channels: str) -> None:
        async with self.database.write() as session:
            await session.execute(delete(KeyValueStore))
            chosen = {"key": "conda_indexed_channels", "value": list(channels)}
            session.add(KeyValueStore(prefix="setting", **chosen))

    async def look(self, *channels: str) -> None:
        """One round, in which everything is due."""
        await self.choose(*channels)
        for state in self.indexer.channels.values():
            state.due = 0.0
        await self.indexer._look()

    async def updates(self) -> dict[str, object]:
        async with self.database.read() as session:
            query = select(CondaChannel.name, CondaChannel.last_update)
            return dict((await session.execute(query)).all())

    async def count(self) -> int:
        return (await self.index.find(PackageQuery(), 0, 1))[1]


@pytest.fixture
async def scene(database: Database, tmp_path: Path) -> AsyncIterator[Scene]:
    found = Scene(database, tmp_path)
    yield found
    found.index.close()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_failure_is_told_once_and_tried_again_later_and_later(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channel = tmp_path / "channel"
    url, local = channel.as_uri(), tmp_path / "other"
    write_channel(local, tool=["1.0"])
    for failures in range(1, 4):
        await scene.look(url, local.as_uri())
        state = scene.indexer.channels[url]
        assert (state.failures, state.records, state.refreshed) == (failures, 0, None)
        assert "has none of" in (state.reason or "")
        delay = RETRY_S * 2 ** (failures - 1)
        assert delay / 2 < state.due - time.monotonic() <= delay
    assert len(warnings(caplog)) == 1
    assert await scene.count() == 1
    assert (await scene.updates())[url] is None

    state.failures = 200
    await scene.look(url, local.as_uri())
    assert state.due - time.monotonic() <= LONGEST_RETRY_S

    write_channel(channel, tool=["1.0", "2.0"])
    await scene.look(url, local.as_uri())
    assert (state.failures, state.reason, state.records) == (0, None, 2)
    assert await scene.count() == 3
    assert all((await scene.updates()).values())
    assert len(warnings(caplog)) == 1


async def test_what_is_not_due_is_left_alone(scene: Scene, tmp_path: Path) -> None:
    write_channel(tmp_path / "channel", tool=["1.0"])
    with serve(tmp_path / "channel") as server:
        await scene.look(server.url)
        assert await scene.count() == 1
        server.requests.clear()
        await scene.indexer._look()
        assert not server.requests
        # Another platform is looked at now.
        async with scene.database.write() as session:
            session.add(KeyValueStore(prefix="setting", key="conda_platforms", value=["osx-64"]))
        await scene.indexer._look()
        assert server.requests["/osx-64/repodata.json"]
        assert not server.requests["/linux-64/repodata.json"]


async def test_after_a_restart_it_is_known_how_things_were(scene: Scene, tmp_path: Path) -> None:
    write_channel(tmp_path / "channel", tool=["1.0"])
    url = (tmp_path / "channel").as_uri()
    await scene.look(url)
    again = Scene(scene.database, tmp_path)
    states = await again.indexer._states([url], await again.index.channels())
    again.index.close()
    assert (states[url].records, states[url].failures, states[url].due) == (1, 0, 0.0)
    refreshed = states[url].refreshed
    assert refreshed is not None
    assert abs(utcnow() - refreshed) < timedelta(minutes=5)


async def test_channels_that_can_not_be_are_left_out_without_their_secrets(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_channel(tmp_path / "channel", tool=["1.0"])
    good = (tmp_path / "channel").as_uri()
    wrong = ["https://ada:secret@example.org/c", "https://e.org/t/secret/c", "https://e.org/" * 30]
    for _ in range(2):
        await scene.look(*wrong, good, good + "/")
    assert list(scene.indexer.channels) == [good]
    assert len(warnings(caplog)) == len(wrong)
    assert "secret" not in caplog.text
    assert await scene.count() == 1


async def test_names_are_below_the_alias_and_main_is_where_it_really_is(scene: Scene) -> None:
    settings = configured(scene.config)
    assert scene.indexer._wanted(settings) == []
    default = configured(CondaStore(data_directory=str(scene.store.root)))
    urls = scene.indexer._wanted(default)
    assert urls == [
        "https://conda.anaconda.org/main",
        "https://conda.anaconda.org/conda-forge",
        "https://repo.anaconda.com/pkgs/main",
    ]
    scene.indexer.channels = {url: ChannelState() for url in urls}
    jobs = [scene.indexer._job(url) for url in urls]
    assert [job["source"] for job in jobs] == [urls[2], urls[1], urls[2]]


async def test_a_cancelled_round_leaves_nothing_behind(scene: Scene, tmp_path: Path) -> None:
    write_channel(tmp_path / "channel", tool=["1.0"])
    with serve(tmp_path / "channel", faults={"*": Fault(delay=60)}) as server:
        await scene.choose(server.url)
        running = asyncio.create_task(scene.indexer.run())
        await asyncio.to_thread(wait_until, lambda: bool(server.requests))
        assert list(scene.store.scratch.iterdir())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(running, PATIENCE_S)
    assert not list(scene.store.scratch.iterdir())
    assert await scene.count() == 0
