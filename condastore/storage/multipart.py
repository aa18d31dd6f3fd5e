"""Uploading a file in parts: several at once, in memory that does not grow with the file."""

import asyncio
import hashlib
import io
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

MIB = 1024**2
# S3 takes 10,000 parts of an object, each but the last of 5 MiB or more.
PART_BYTES = 8 * MIB
MAX_PARTS = 9_000
AT_ONCE = 2
ABORT_S = 10.0

_MD5 = re.compile(r'"?([0-9a-f]{32})"?')
# What is encrypted with a key of somebody's has an ETag that says nothing of the bytes.
_BY_KEY = ("aws:kms", "aws:kms:dsse")


class OtherBytes(Exception):
    """S3 says that it has stored other bytes than it was sent."""


async def upload(client: Any, bucket: str, key: str, path: Path, media_type: str) -> None:
    """Stores a file under a key. What fails leaves no part behind, as far as S3 can be reached."""
    fd = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        where = {"Bucket": bucket, "Key": key}
        if size <= PART_BYTES:
            data, md5 = await asyncio.to_thread(_read, fd, size, 0)
            await _put(client, where, data, md5, media_type)
            return
        begun = await client.create_multipart_upload(**where, ContentType=media_type)
        where["UploadId"] = begun["UploadId"]
        try:
            parts = await _parts(client, where, fd, size)
            await client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        except BaseException:
            # While S3 is away nothing can be aborted; the storage does that when it opens.
            with suppress(Exception):
                async with asyncio.timeout(ABORT_S):
                    await client.abort_multipart_upload(**where)
            raise
    finally:
        os.close(fd)


async def put(client: Any, where: dict[str, str], data: bytes, media_type: str) -> None:
    """Stores what one request can hold. Raises `OtherBytes`."""
    await _put(client, where, data, await asyncio.to_thread(_md5, data), media_type)


async def _put(client: Any, where: dict[str, str], data: bytes, md5: str, media_type: str) -> None:
    answer = await client.put_object(**where, Body=io.BytesIO(data), ContentType=media_type)
    _compare(answer, md5)


async def _parts(client: Any, where: dict[str, str], fd: int, size: int) -> list[dict[str, Any]]:
    """Uploads all parts and returns what S3 calls them."""
    length = max(PART_BYTES, -(-size // MAX_PARTS))
    offsets = range(0, size, length)
    left = iter(enumerate(offsets, start=1))
    done: list[dict[str, Any]] = []

    async def send(number: int, offset: int) -> None:
        data, md5 = await asyncio.to_thread(_read, fd, min(length, size - offset), offset)
        answer = await client.upload_part(**where, PartNumber=number, Body=io.BytesIO(data))
        _compare(answer, md5)
        done.append({"PartNumber": number, "ETag": answer["ETag"]})

    async def work() -> None:
        for number, offset in left:
            # In a function of its own, so that a part is forgotten before the next is read.
            await send(number, offset)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(offsets))):
                group.create_task(work(), name=f"upload of {where['Key']}")
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return sorted(done, key=lambda part: part["PartNumber"])


def _compare(answer: dict[str, Any], md5: str) -> None:
    """Raises `OtherBytes` if the answer has an MD5 of what was stored, and it is another one."""
    found = _MD5.fullmatch(answer.get("ETag", ""))
    has_key = "SSECustomerAlgorithm" in answer or answer.get("ServerSideEncryption") in _BY_KEY
    if found is not None and not has_key and found[1] != md5:
        raise OtherBytes


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _read(fd: int, length: int, offset: int) -> tuple[bytes, str]:
    """Returns just so many bytes and their MD5; a file that is shorter now can't be stored."""
    data = os.pread(fd, length, offset)
    if len(data) != length:
        raise OSError("the file became shorter while it was stored")
    return data, _md5(data)
