"""F43: what S3 refuses, breaks off or never answers costs an artifact only time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from condastore.errors import StorageUnavailable
from condastore.storage import multipart
from condastore.storage.outbox import Outbox
from condastore.storage.s3 import S3Storage
from devtools.faultproxy import FaultProxy, Silence, Trouble, proxied
from devtools.servers import S3Server
from tests.storage.storages import bucket_of
from tests.storage.test_outbox import sent
from tests.storage.test_s3 import uploads

KEY = "archive/a.tar.gz"
REFUSALS = {
    "no permission": (403, "AccessDenied"),
    "no bucket": (404, "NoSuchBucket"),
    "an error": (500, "InternalError"),
    "too many requests": (503, "SlowDown"),
    "credentials that ended": (400, "ExpiredToken"),
    "a wrong clock": (403, "RequestTimeTooSkewed"),
    "other bytes than were sent": (400, "BadDigest"),
    "an ETag of other bytes": (200, "WrongETag"),
}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condastore.storage.s3.ATTEMPTS", 1)
    monkeypatch.setattr("condastore.storage.outbox.RETRY_S", (0.1, 0.5))


@asynccontextmanager
async def behind(server: S3Server, proxy: FaultProxy) -> AsyncIterator[S3Storage]:
    """A storage that reaches its server through the proxy."""
    storage = await bucket_of(server)
    storage.internal_endpoint = f"127.0.0.1:{proxy.port}"
    await storage.open()
    try:
        yield storage
    finally:
        await storage.close()


@asynccontextmanager
async def refusing(status: int, code: str, header: str = "") -> AsyncIterator[int]:
    """A server that has the same answer to everything; its port."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    if status == 200:
        body = ""
    head = f"HTTP/1.1 {status} No\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    head += f"{header}\r\n" if header else ""
    head += f'ETag: "{hashlib.md5(b"other").hexdigest()}"\r\n'
    answer = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def begun(storage: S3Storage) -> bool:
    """Whether an upload has begun; this server has no list of them before the first one."""
    try:
        return bool(await uploads(storage))
    except ClientError:
        return False


async def test_f43_what_is_refused_waits_and_is_stored_later(
    s3_server: S3Server, tmp_path: Path
) -> None:
    with proxied(s3_server.port) as proxy:
        async with behind(s3_server, proxy) as remote:
            outbox = Outbox(remote, tmp_path / "unstored")
            sending = asyncio.create_task(outbox.run())
            for name, (status, code) in REFUSALS.items():
                key = f"yaml/{code}.yml"
                async with refusing(status, code) as port:
                    proxy.target = port
                    proxy.cut()
                    await outbox.put_bytes(key, name.encode())
                    assert outbox.waiting == 1, name
                    assert b"".join([piece async for piece in outbox.read(key)]) == name.encode()
                    with pytest.raises(StorageUnavailable):
                        await remote.put_bytes("yaml/other.yml", b"x")
                proxy.target = s3_server.port
                await sent(outbox, tmp_path / "unstored")
                assert await remote.size(key) == len(name)
            sending.cancel()
            await asyncio.wait([sending])


@pytest.mark.parametrize(
    "header",
    [
        "x-amz-server-side-encryption: aws:kms",
        "x-amz-server-side-encryption-customer-algorithm: AES256",
    ],
)
async def test_f43_the_etag_of_what_a_key_encrypts_proves_nothing(
    s3_server: S3Server, header: str
) -> None:
    with proxied(s3_server.port) as proxy:
        async with behind(s3_server, proxy) as remote, refusing(200, "", header) as port:
            proxy.target = port
            proxy.cut()
            await remote.put_bytes("yaml/a.yml", b"text")


async def test_f43_an_upload_that_breaks_off_leaves_no_parts(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "large"
    source.write_bytes(bytes(3 * multipart.PART_BYTES))
    with proxied(s3_server.port) as proxy:
        async with behind(s3_server, proxy) as storage:
            proxy.trouble.cut_after = 2**20
            with pytest.raises(StorageUnavailable):
                await storage.put_file(KEY, source)
            proxy.trouble = Trouble()
            assert await uploads(storage) == []
            assert await storage.size(KEY) is None
            await storage.put_file(KEY, source)
            assert await storage.size(KEY) == source.stat().st_size
        # With more attempts it is not even noticed.
        monkeypatch.setattr("condastore.storage.s3.ATTEMPTS", 4)
        async with behind(s3_server, proxy) as storage:
            proxy.trouble.cut_after = multipart.PART_BYTES + 2**20
            await storage.put_file(KEY, source)
            proxy.trouble = Trouble()
            assert await storage.size(KEY) == source.stat().st_size


async def test_f43_an_upload_that_is_never_answered_ends_and_is_cleared_at_the_next_start(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condastore.storage.s3.ANSWER_S", 1)
    monkeypatch.setattr("condastore.storage.multipart.ABORT_S", 0.5)
    source = tmp_path / "large"
    source.write_bytes(bytes(3 * multipart.PART_BYTES))
    with proxied(s3_server.port) as proxy:
        async with behind(s3_server, proxy) as storage:
            proxy.trouble.delay_s = 0.01
            storing = asyncio.create_task(storage.put_file(KEY, source))
            direct = S3Storage(**{**s3_server.settings(), "bucket_name": storage.bucket_name})
            await direct.open()
            async with asyncio.timeout(60):
                while not await begun(direct):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            proxy.trouble.silence = Silence.BOTH
            with pytest.raises(StorageUnavailable):
                await storing
            assert len(await uploads(direct)) == 1
            await direct.close()
            monkeypatch.setattr("condastore.storage.s3.ABANDONED", timedelta(seconds=-60))
            await direct.open()
            assert await uploads(direct) == []
            await direct.close()
