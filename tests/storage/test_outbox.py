"""A storage that is away keeps nobody waiting, and loses nothing."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from condastore.storage.outbox import Outbox
from condastore.storage.s3 import S3Storage
from devtools.servers import S3Server, running
from tests.patience import PATIENCE_S


@pytest.fixture
def server(tmp_path: Path) -> Iterator[S3Server]:
    server = S3Server(tmp_path / "s3")
    with running(server):
        yield server


@asynccontextmanager
async def opened(server: S3Server, directory: Path) -> AsyncIterator[Outbox]:
    """An outbox as a daemon has it."""
    outbox = Outbox(S3Storage(**server.settings()), directory)
    await outbox.open()
    sending = asyncio.create_task(outbox.run())
    try:
        yield outbox
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await outbox.close()


async def read(outbox: Outbox, key: str) -> bytes:
    return b"".join([piece async for piece in outbox.read(key)])


async def sent(outbox: Outbox, directory: Path) -> None:
    async with asyncio.timeout(PATIENCE_S):
        # The last file goes a moment after its key.
        while outbox.waiting or os.listdir(directory):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_what_is_stored_during_an_outage_is_there_and_sent_later(
    server: S3Server, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"a log")
    async with opened(server, tmp_path / "unstored") as outbox:
        await outbox.put_bytes("yaml/old.yml", b"old")
        server.stop()
        await outbox.put_bytes("yaml/a.yml", b"first")
        await outbox.put_bytes("yaml/a.yml", b"second")
        await outbox.put_file("logs/a.log", source)
        await outbox.move_file("archive/a.tar.gz", source)
        assert await outbox.delete("yaml/old.yml") == 0
        assert outbox.waiting == 4
        assert await read(outbox, "yaml/a.yml") == b"second"
        assert await outbox.size("logs/a.log") == 5
        assert await outbox.size("yaml/old.yml") is None
        assert not source.exists()
        server.start()
        await sent(outbox, tmp_path / "unstored")
        assert await read(outbox, "yaml/a.yml") == b"second"
        assert await read(outbox, "archive/a.tar.gz") == b"a log"
        assert await outbox.size("yaml/old.yml") is None


async def test_the_next_daemon_sends_what_the_last_could_not(
    server: S3Server, tmp_path: Path
) -> None:
    async with opened(server, tmp_path / "unstored") as outbox:
        server.stop()
        await outbox.put_bytes("yaml/a.yml", b"text")
        await outbox.put_bytes("yaml/b.yml", b"text")
        assert await outbox.delete("yaml/b.yml") == 4
    # What a crash leaves: bytes of which no note says what they are.
    (tmp_path / "unstored" / "0123.data").write_bytes(b"half")
    server.start()
    async with opened(server, tmp_path / "unstored") as outbox:
        assert await read(outbox, "yaml/a.yml") == b"text"
        await sent(outbox, tmp_path / "unstored")
        assert await read(outbox, "yaml/a.yml") == b"text"
        assert await outbox.size("yaml/b.yml") is None
