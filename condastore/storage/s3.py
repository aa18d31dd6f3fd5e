"""Artifacts in a bucket of S3, or of whatever speaks its protocol."""

import asyncio
import email.utils
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import traitlets
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError
from traitlets import Bool, Dict, Integer, List, TraitError, Unicode, validate

from condastore.errors import NotYet, StorageUnavailable
from condastore.storage import multipart
from condastore.storage.base import Storage, Stored, key_parts

logger = logging.getLogger(__name__)

READ_BYTES = 256 * 1024
CONNECT_S = 5
ANSWER_S = 30
ATTEMPTS = 4
RESUMES = 3
RESUME_DELAY_S = 0.5
# An upload that is older has died with its daemon; others may be under way from other daemons.
ABANDONED = timedelta(days=1)
CREDENTIALS_KEPT = timedelta(hours=1)

_FAILURES = (
    BotoCoreError,
    ClientError,
    aiohttp.ClientError,
    TimeoutError,
    multipart.OtherBytes,
)
_MISSING = ("404", "NoSuchKey", "NotFound")
_ENDPOINT = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")


class S3Storage(Storage):
    """Keeps artifacts in a bucket of S3; while it is away, what is new waits on the disk."""

    is_remote = True

    internal_endpoint = Unicode(
        None,
        allow_none=True,
        help="""Host, or host:port, where the daemon finds S3. Default: Amazon's own for the
        region.""",
    ).tag(config=True)

    external_endpoint = Unicode(
        None,
        allow_none=True,
        help="""Host, or host:port, where clients find S3: downloads are sent there, with a URL
        that is signed for a while. Default: downloads go through the daemon.""",
    ).tag(config=True)

    access_key = Unicode(
        None,
        allow_none=True,
        help="""Access key. Default: what the environment says, such as `AWS_ACCESS_KEY_ID`,
        `~/.aws/credentials` or the role of the machine.""",
    ).tag(config=True)

    secret_key = Unicode(
        None, allow_none=True, help="Secret that belongs to `access_key`. Default: likewise."
    ).tag(config=True)

    region = Unicode("us-east-1", help="Region of the bucket.").tag(config=True)

    bucket_name = Unicode("conda-store", help="Bucket of the artifacts; it must exist.").tag(
        config=True
    )

    internal_secure = Bool(True, help="Speak TLS with `internal_endpoint`.").tag(config=True)

    external_secure = Bool(True, help="Clients speak TLS with `external_endpoint`.").tag(
        config=True
    )

    credentials = traitlets.Callable(
        None,
        allow_none=True,
        help="""Provider of credentials instead of `access_key`: a class whose objects have a method
        `retrieve()` that returns an object with `access_key`, `secret_key` and `session_token`,
        such as the providers of the package minio.""",
    ).tag(config=True)

    credentials_args = List(traitlets.Any(), help="Positional arguments of `credentials`.").tag(
        config=True
    )

    credentials_kwargs = Dict(help="Named arguments of `credentials`.").tag(config=True)

    url_lifetime = Integer(
        900, min=1, max=7 * 24 * 3600, help="Seconds for which the URL of a download is good."
    ).tag(config=True)

    @validate("internal_endpoint", "external_endpoint")
    def _host(self, proposal: Any) -> str | None:
        endpoint: str | None = proposal["value"]
        if endpoint is not None and not _ENDPOINT.fullmatch(endpoint):
            raise TraitError(
                f"S3Storage.{proposal['trait'].name}: {endpoint!r} is not a host or host:port "
                "(whether to speak TLS is said by internal_secure and external_secure)"
            )
        return endpoint

    async def open(self) -> None:
        """Looks whether the bucket can be used. Raises `NotYet`."""
        self._stack = AsyncExitStack()
        session = self._session()
        try:
            self._client = await self._connect(
                session, self.internal_endpoint, self.internal_secure
            )
            await self._client.list_objects_v2(Bucket=self.bucket_name, MaxKeys=1)
            self._signer = self._client
            if self.external_endpoint:
                self._signer = await self._connect(
                    session, self.external_endpoint, self.external_secure
                )
            await self._abort_abandoned()
        except _FAILURES as error:
            await self.close()
            raise NotYet(self._explain(error)) from error

    async def close(self) -> None:
        await self._stack.aclose()

    async def put_file(self, key: str, path: Path) -> None:
        with self._failures(key):
            await multipart.upload(self._client, self.bucket_name, key, path, _media_type(key))

    async def move_file(self, key: str, path: Path) -> None:
        await self.put_file(key, path)
        await asyncio.to_thread(path.unlink)

    async def put_bytes(self, key: str, data: bytes) -> None:
        with self._failures(key):
            await multipart.put(self._client, self._at(key), data, _media_type(key))

    async def stat(self, key: str) -> Stored | None:
        try:
            with self._failures(key):
                found = await self._client.head_object(**self._at(key))
        except FileNotFoundError:
            return None
        return Stored(found["ContentLength"], found["ETag"].strip('"'))

    async def read(
        self, key: str, offset: int = 0, length: int | None = None
    ) -> AsyncIterator[bytes]:
        stop = None if length is None else offset + length
        version, breaks = None, 0
        while True:
            answer = await self._get(key, offset, stop, version)
            if answer is None:
                return
            version, end = answer["ETag"], offset + answer["ContentLength"]
            try:
                async with answer["Body"] as body:
                    async for piece in body.iter_chunks(READ_BYTES):
                        offset += len(piece)
                        yield piece
            except _FAILURES as error:
                # The connection broke; the same bytes go on where it did.
                breaks += 1
                if breaks > RESUMES:
                    raise self._unavailable(error) from error
                await asyncio.sleep(RESUME_DELAY_S * breaks)
            if offset >= end:
                return

    async def _get(self, key: str, start: int, stop: int | None, version: str | None) -> Any:
        """Begins to read a range of a version; None if there is nothing at `start`."""
        wanted = self._at(key)
        if start or stop is not None:
            # A range holds one byte at least; of an empty one it is only asked whether it is there.
            last = "" if stop is None else str(max(stop - 1, start))
            wanted["Range"] = f"bytes={start}-{last}"
        if version is not None:
            wanted["IfMatch"] = version
        with self._failures(key):
            if stop is not None and stop <= start:
                await self._client.head_object(**self._at(key))
                return None
            try:
                return await self._client.get_object(**wanted)
            except ClientError as error:
                if _code(error) in ("416", "InvalidRange"):
                    return None
                raise

    async def url(self, key: str, *, media_type: str, filename: str | None) -> str | None:
        if not self.external_endpoint:
            return None
        shown = {"ResponseContentType": media_type}
        if filename is not None:
            shown["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(filename)}"
        url: str = await self._signer.generate_presigned_url(
            "get_object", Params={**self._at(key), **shown}, ExpiresIn=self.url_lifetime
        )
        return url

    async def ages(self, folder: str) -> AsyncIterator[tuple[str, float]]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            **{"Bucket": self.bucket_name, "Prefix": f"{folder}/"}
        )
        with self._failures(folder):
            async for page in pages:
                now = _server_time(page)
                for entry in page.get("Contents", []):
                    yield entry["Key"], (now - entry["LastModified"]).total_seconds()

    async def delete_older(self, key: str, age_s: float) -> int:
        # S3 can't tell bytes that are written again at this moment from the same bytes before.
        try:
            with self._failures(key):
                found = await self._client.head_object(**self._at(key))
                if (_server_time(found) - found["LastModified"]).total_seconds() < age_s:
                    return 0
                await self._client.delete_object(**self._at(key))
        except FileNotFoundError:
            return 0
        size: int = found["ContentLength"]
        return size

    async def delete(self, key: str) -> int:
        found = await self.stat(key)
        if found is None:
            return 0
        with self._failures(key):
            await self._client.delete_object(**self._at(key))
        return found.size

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self.bucket_name, "Key": "/".join(key_parts(key))}

    def _session(self) -> AioSession:
        session = get_session()
        if self.credentials is not None:
            provider = self.credentials(*self.credentials_args, **self.credentials_kwargs)
            session._credentials = AioDeferredRefreshableCredentials(
                refresh_using=lambda: _retrieved(provider), method="condastore"
            )
        return session

    async def _connect(self, session: AioSession, endpoint: str | None, secure: bool) -> Any:
        scheme = "https" if secure else "http"
        client = session.create_client(
            "s3",
            region_name=self.region,
            endpoint_url=f"{scheme}://{endpoint}" if endpoint else None,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=AioConfig(
                signature_version="s3v4",
                # What is not Amazon's seldom knows buckets as host names, or the newer checksums.
                s3={"addressing_style": "path" if endpoint else "auto"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=CONNECT_S,
                read_timeout=ANSWER_S,
                retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
                max_pool_connections=32,
            ),
        )
        return await self._stack.enter_async_context(client)

    async def _abort_abandoned(self) -> None:
        """Throws away the parts of uploads that died with their daemon, if S3 lets us."""
        try:
            listed = await self._client.list_multipart_uploads(Bucket=self.bucket_name)
        except ClientError as error:
            logger.info("uploads that were broken off can't be listed: %s", _code(error))
            return
        now = _server_time(listed)
        for found in listed.get("Uploads", []):
            if now - found["Initiated"] > ABANDONED:
                where = {**self._at(found["Key"]), "UploadId": found["UploadId"]}
                await self._client.abort_multipart_upload(**where)

    @contextmanager
    def _failures(self, key: str) -> Iterator[None]:
        """Turns S3's failures into ours."""
        try:
            yield
        except ClientError as error:
            if _code(error) in _MISSING:
                raise FileNotFoundError(key) from error
            raise self._unavailable(error) from error
        except _FAILURES as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        """Returns what whoever asked may know; the log has the rest."""
        logger.warning("%s", self._explain(error))
        return StorageUnavailable("the storage can't be used now; try again later")

    def _explain(self, error: Exception) -> str:
        """Returns a sentence that names the setting to look at, and no secret."""
        where = self.internal_endpoint or f"Amazon S3 in {self.region}"
        if isinstance(error, multipart.OtherBytes):
            return f"S3 at {where} says by its ETag that it has stored other bytes than it was sent"
        if not isinstance(error, ClientError):
            return (
                f"S3 at {where} can't be reached ({type(error).__name__}): look at "
                "c.S3Storage.internal_endpoint and internal_secure"
            )
        code = _code(error)
        if code in ("404", "NoSuchBucket", "NotFound"):
            return (
                f"S3 at {where} has no bucket {self.bucket_name}: make it, or set "
                "c.S3Storage.bucket_name"
            )
        if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"):
            return f"S3 at {where} refuses c.S3Storage.access_key and secret_key ({code})"
        if code in ("403", "AccessDenied"):
            return (
                f"S3 at {where} refuses the bucket {self.bucket_name} to this account ({code}): "
                "look at c.S3Storage.access_key and the bucket's policy"
            )
        return f"S3 at {where} answers {code or 'an error'} for the bucket {self.bucket_name}"


async def _retrieved(provider: Any) -> dict[str, str]:
    """Returns a provider's credentials as botocore wants them."""
    found = await asyncio.to_thread(provider.retrieve)
    expires = getattr(found, "expiration", None) or datetime.now(UTC) + CREDENTIALS_KEPT
    return {
        "access_key": found.access_key,
        "secret_key": found.secret_key,
        "token": getattr(found, "session_token", None),
        "expiry_time": expires.isoformat(),
    }


def _code(error: BaseException | None) -> str:
    """Returns what S3 calls an error; nothing where S3 has not answered."""
    if not isinstance(error, ClientError):
        return ""
    return str(error.response.get("Error", {}).get("Code", ""))


def _server_time(answer: dict[str, Any]) -> datetime:
    """Returns when S3 answered by its own clock, which its other times are of."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return email.utils.parsedate_to_datetime(date) if date else datetime.now(UTC)


def _media_type(key: str) -> str:
    """Returns what S3 tells whoever comes without our URL."""
    return "text/plain" if key.endswith((".log", ".yml")) else "application/octet-stream"
