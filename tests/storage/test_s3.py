"""What only S3 has: parts, signed addresses, credentials, and a network in between."""

import asyncio
import resource
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import pytest
from traitlets import TraitError

from condastore.errors import ConfigurationError, StorageUnavailable
from condastore.storage import multipart
from condastore.storage.s3 import S3Storage
from devtools.servers import S3Server, free_port
from tests.patience import PATIENCE_S
from tests.storage.storages import bucket_of

MIB = 1024**2


async def test_a_large_file_goes_in_parts_and_comes_back(
    s3_server: S3Server, tmp_path: Path
) -> None:
    storage = await bucket_of(s3_server)
    await storage.open()
    source = tmp_path / "large"
    pattern = bytes(range(256)) * 4096
    with source.open("wb") as file:
        for number in range(3 * multipart.PART_BYTES // len(pattern)):
            file.write(number.to_bytes(4, "big") + pattern[4:])
        file.write(b"and a rest")
    await storage.put_file("archive/large.tar.gz", source)
    position = 0
    with source.open("rb") as file:
        async for piece in storage.read("archive/large.tar.gz"):
            assert piece == file.read(len(piece))
            position += len(piece)
    assert position == source.stat().st_size
    assert await uploads(storage) == []
    await storage.close()


async def test_an_upload_that_fails_or_is_cancelled_leaves_no_parts(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = await bucket_of(s3_server)
    await storage.open()
    source = tmp_path / "large"
    source.write_bytes(bytes(5 * multipart.PART_BYTES))

    read = multipart._read

    def shorter(fd: int, length: int, offset: int) -> tuple[bytes, str]:
        if offset >= 3 * multipart.PART_BYTES:
            raise OSError("the disk failed")
        return read(fd, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(multipart, "_read", shorter)
        with pytest.raises(OSError, match="the disk failed"):
            await storage.put_file("archive/a.tar.gz", source)
    assert await uploads(storage) == []

    storing = asyncio.create_task(storage.put_file("archive/a.tar.gz", source))
    while not await uploads(storage):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert await uploads(storage) == []
    assert await storage.size("archive/a.tar.gz") is None
    await storage.close()


async def test_an_upload_takes_no_more_memory_than_its_parts(
    s3_server: S3Server, tmp_path: Path
) -> None:
    storage = await bucket_of(s3_server)
    await storage.open()
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(256 * MIB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await storage.put_file("archive/a.tar.gz", source)
    grown_mib = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mib < 64
    assert await storage.size("archive/a.tar.gz") == 256 * MIB
    await storage.close()


async def test_a_download_has_an_address_of_its_own_for_a_while(s3_server: S3Server) -> None:
    outside = f"localhost:{s3_server.port}"
    storage = await bucket_of(s3_server, external_endpoint=outside, external_secure=False)
    storage.url_lifetime = 3
    await storage.open()
    await storage.put_bytes("yaml/a.yml", b"text")
    url = await storage.url("yaml/a.yml", media_type="text/yaml", filename='ü".yml')
    assert url is not None and urlsplit(url).netloc == outside
    async with httpx.AsyncClient() as client:
        answer = await client.get(url)
        assert (answer.status_code, answer.text) == (200, "text")
        assert answer.headers["content-type"].startswith("text/yaml")
        assert "attachment" in answer.headers["content-disposition"]
        assert (await client.get(url.replace("a.yml", "b.yml"))).status_code == 403
        async with asyncio.timeout(PATIENCE_S):
            while (await client.get(url)).status_code == 200:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
    await storage.close()


async def test_without_an_external_endpoint_there_is_no_address(s3_server: S3Server) -> None:
    storage = await bucket_of(s3_server)
    await storage.open()
    assert await storage.url("yaml/a.yml", media_type="text/yaml", filename=None) is None
    await storage.close()


async def test_credentials_come_from_a_provider(s3_server: S3Server) -> None:
    asked = []

    class Provider:
        def __init__(self, key: str, *, secret: str) -> None:
            self.found = SimpleNamespace(access_key=key, secret_key=secret, session_token=None)

        def retrieve(self) -> SimpleNamespace:
            asked.append(self)
            return self.found

    storage = await bucket_of(
        s3_server,
        access_key=None,
        secret_key=None,
        credentials=Provider,
        credentials_args=[s3_server.access_key],
        credentials_kwargs={"secret": s3_server.secret_key},
    )
    await storage.open()
    await storage.put_bytes("yaml/a.yml", b"text")
    assert await storage.size("yaml/a.yml") == 4
    assert len(asked) == 1
    await storage.close()


@pytest.mark.parametrize(
    ("traits", "said"),
    [
        ({"bucket_name": "none"}, "c.S3Storage.bucket_name"),
        ({"secret_key": "not-this-one"}, "c.S3Storage.access_key"),
        ({"internal_endpoint": f"127.0.0.1:{free_port()}"}, "c.S3Storage.internal_endpoint"),
        ({"internal_secure": True}, "internal_secure"),
    ],
)
async def test_what_can_not_be_opened_names_the_setting(
    s3_server: S3Server, traits: dict[str, object], said: str
) -> None:
    storage = S3Storage(**{**s3_server.settings(), **traits})
    with pytest.raises(ConfigurationError) as raised:
        await storage.open()
    text = str(raised.value)
    assert said in text and "\n" not in text
    assert s3_server.secret_key not in text and "not-this-one" not in text


@pytest.mark.parametrize("endpoint", ["https://s3.example.org", "host:port", "", "a b"])
def test_an_endpoint_is_a_host_and_a_port(endpoint: str) -> None:
    with pytest.raises(TraitError, match="internal_endpoint"):
        S3Storage(internal_endpoint=endpoint)


async def test_what_fails_at_run_time_says_so_without_the_address(
    tmp_path: Path, s3_server: S3Server
) -> None:
    storage = await bucket_of(s3_server)
    await storage.open()
    storage.bucket_name = "gone"
    with pytest.raises(StorageUnavailable) as raised:
        await storage.put_bytes("yaml/a.yml", b"text")
    assert s3_server.endpoint not in str(raised.value)
    await storage.close()


async def uploads(storage: S3Storage) -> list[str]:
    """Returns the keys of uploads that are neither complete nor aborted."""
    listed = await storage._client.list_multipart_uploads(Bucket=storage.bucket_name)
    return [found["Key"] for found in listed.get("Uploads", [])]
