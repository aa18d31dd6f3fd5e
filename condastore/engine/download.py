"""Gets the archive of one package, with its hash checked, as a file on this machine."""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from rattler.networking import Client
from rattler.package_streaming import download_to_writer

from condastore.engine.events import EngineError
from condastore.engine.jobs import Credential, Limits, Record
from condastore.engine.network import explain_transfer, http_status
from condastore.engine.records import archive_hash, file_name, label
from condastore.engine.retry_after import BUSY, asked_wait_s

_ATTEMPTS = 3
_RETRY_S = 0.5
_STALL_S = 60.0
# A server that sends less than this within the stall time is as good as silent.
_STALL_BYTES = 4096
_TRANSIENT_STATUSES = {408, 429}
_READ_BYTES = 1 << 20
_HEAD_BYTES = 64
_GONE_STATUSES = (404, 410)
_IS_GONE = (
    " It is named by the channel's list of packages, or by the lockfile, but is not on the server, "
    "or not any more. Build again in some minutes, when that list is read again, or without it."
)
_IS_PAGE = " What came is a web page: does a proxy or a login page answer for the channel?"

Advance = Callable[[int], None]


class Archive:
    """An archive on this machine; counted and hashed as its bytes come."""

    def __init__(self, record: Record, path: Path, limit: int, advance: Advance) -> None:
        self.path = path
        self.size = 0
        self._head = b""
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._record = record
        self._wants_md5 = not (record.get("sha256") and record.get("md5"))
        self._limit = limit
        self._advance = advance

    def add(self, data: bytes) -> None:
        """Takes the next bytes into account."""
        if not self.size:
            self._head = data[:_HEAD_BYTES]
        self.size += len(data)
        if self.size > self._limit:
            raise EngineError(
                "package",
                f"Package {label(self._record)} is larger than the limit of {self._limit} bytes.",
            )
        self._sha256.update(data)
        if self._wants_md5:
            self._md5.update(data)
        self._advance(len(data))

    @property
    def sha256(self) -> str:
        """The hash of what has come so far."""
        return self._sha256.hexdigest()

    @property
    def md5(self) -> str | None:
        """The hash that conda-lock asks for: the record's, or else that of what has come."""
        return self._md5.hexdigest() if self._wants_md5 else self._record["md5"]

    def check(self) -> None:
        """Compares with what the record says; sha256 counts where there is one."""
        record = self._record
        if record.get("size") not in (None, self.size):
            raise EngineError(
                "hash",
                f"Package {label(record)} has {self.size} bytes, expected {record['size']}."
                f"{self._hint()}",
            )
        if record.get("sha256"):
            name, expected, found = "sha256", record["sha256"], self.sha256
        else:
            name, expected, found = "md5", record["md5"], self._md5.hexdigest()
        if found != expected:
            raise EngineError(
                "hash",
                f"Package {label(record)} is not the one that was locked: "
                f"its {name} is {found}, expected {expected}.{self._hint()}",
            )

    def _hint(self) -> str:
        is_page = self._head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        return _IS_PAGE if is_page else ""


class Downloader:
    """Gets archives into a directory; those of `file:` URLs are left where they are."""

    def __init__(
        self,
        client: Client,
        credentials: Sequence[Credential],
        directory: Path,
        limits: Limits,
        advance: Advance,
        say: Callable[[str], None],
    ) -> None:
        """`advance` is told of bytes that came, and `say` what the user should read."""
        self._client = client
        self._credentials = credentials
        self._directory = directory
        self._limits = limits
        self._advance = advance
        self._say = say

    async def get(self, record: Record) -> Archive:
        """The archive of one package."""
        url = urlsplit(record["url"])
        if url.scheme == "file":
            archive = await asyncio.to_thread(self._read_local, record, Path(unquote(url.path)))
        elif url.scheme in ("http", "https"):
            archive = await self._download(record)
        else:
            raise EngineError("spec", f"Package {label(record)} has an unsupported kind of URL.")
        archive.check()
        return archive

    def _read_local(self, record: Record, path: Path) -> Archive:
        archive = self._archive(record, path)
        try:
            with open(path, "rb", buffering=0) as file:
                while data := file.read(_READ_BYTES):
                    archive.add(data)
        except OSError as error:
            reason = f"Could not read package {label(record)}: {error.strerror}"
            raise EngineError("network", reason) from None
        return archive

    async def _download(self, record: Record) -> Archive:
        path = self._directory / f"{archive_hash(record)}-{file_name(record)}"
        for attempt in range(1, _ATTEMPTS + 1):
            archive = self._archive(record, path)
            try:
                await self._transfer(record["url"], archive)
                return archive
            except (RuntimeError, OSError) as error:  # all that rattler raises
                wait_s = await self._wait_s(error, record, attempt)
                self._advance(-archive.size)
                await asyncio.sleep(wait_s)
        raise AssertionError("unreachable")

    async def _wait_s(self, error: BaseException, record: Record, attempt: int) -> float:
        """How long to wait before another attempt. Raises the reason where there must be none."""
        reason = explain_transfer(error, f"package {label(record)}")
        status = http_status(error)
        if status in _GONE_STATUSES:
            raise EngineError(reason.kind, f"{reason}{_IS_GONE}") from None
        final = status is not None and status < 500 and status not in _TRANSIENT_STATUSES
        if final or reason.kind != "network" or attempt == _ATTEMPTS:
            raise reason from None
        wait_s = _RETRY_S * attempt
        if status in BUSY:
            asked_s = await asyncio.to_thread(asked_wait_s, record["url"], self._credentials)
            wait_s = max(wait_s, asked_s)
            self._say(f"{reason} Trying again after {wait_s:g} s.")
        return wait_s

    async def _transfer(self, url: str, archive: Archive) -> None:
        stall_s = self._limits.get("stall_s", _STALL_S)
        with archive.path.open("wb") as file:
            writer = _Writer(archive, file)
            transfer = asyncio.ensure_future(download_to_writer(self._client, url, writer))
            try:
                while not transfer.done():
                    before = archive.size
                    await asyncio.wait({transfer}, timeout=stall_s)
                    if not transfer.done() and archive.size - before < _STALL_BYTES:
                        raise EngineError("network", f"No data from {url} for {stall_s:g} s.")
                await transfer
            finally:
                transfer.cancel()

    def _archive(self, record: Record, path: Path) -> Archive:
        return Archive(record, path, self._limits["package_bytes"], self._advance)


class _Writer:
    """What rattler writes a response to."""

    def __init__(self, archive: Archive, file: BinaryIO) -> None:
        self._archive = archive
        self._file = file

    def write(self, data: bytes) -> int:
        self._archive.add(data)
        return self._file.write(data)
