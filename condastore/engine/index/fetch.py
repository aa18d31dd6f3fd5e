"""Gets the documents of a channel, and only those that have changed."""

import hashlib
import http.client
import os
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from condastore.engine.credentials import opened
from condastore.engine.events import EngineError
from condastore.engine.index.compression import READS_ZSTD
from condastore.engine.jobs import Credential, IndexLimits

_USER_AGENT = "condastore"
_STALL_S = 60.0
# A server that sends less than this within the stall time is as good as silent.
_STALL_BYTES = 4096
_READ_BYTES = 1 << 16
_ABSENT = {404, 410}
_REFUSED = {401, 403, 407}
_SUFFIXES = (".zst", ".bz2", "") if READS_ZSTD else (".bz2", "")


@dataclass(frozen=True)
class Known:
    """What is known of a document from when it was read last; no `suffix` if there was none."""

    suffix: str | None
    etag: str | None = None
    last_modified: str | None = None
    digest: str | None = None


@dataclass(frozen=True)
class Document:
    """A document: what to know of it from now on, and its file if it has changed."""

    known: Known
    path: Path | None = None
    encoding: str = ""

    @property
    def is_changed(self) -> bool:
        """Whether it is other than it was; a document that is still absent is not."""
        return self.path is not None


class _Absent(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Fetcher:
    """Gets the documents of one channel into a directory."""

    def __init__(
        self,
        channel: str,
        credentials: Sequence[Credential],
        directory: Path,
        limits: IndexLimits,
    ) -> None:
        self._channel = channel
        self._base, self._authorization = opened(channel, credentials)
        self._directory = directory
        self._limits = limits
        self._opener = _opener()
        parts = urlsplit(channel)
        if parts.scheme not in ("http", "https", "file"):
            raise EngineError("spec", f"Channel {channel} can't be indexed: no such kind of URL.")
        self._local = Path(unquote(parts.path)) if parts.scheme == "file" else None

    def get(self, name: str, known: Known | None, *, compressed: bool) -> Document:
        """The document `name`, such as ``noarch/repodata.json``, in whatever form there is.

        One request, if it is as it was. Raises `EngineError`.
        """
        if known is not None:
            try:
                if known.suffix is not None:
                    return self._ask(name, known.suffix, known)
                self._probe(name)
            except _Absent:
                if known.suffix is None:
                    return Document(known)
        statuses = set()
        for suffix in self._suffixes if compressed else ("",):
            try:
                return self._ask(name, suffix, None)
            except _Absent as absent:
                statuses.add(absent.status)
        refused = statuses & _REFUSED
        if refused and compressed:
            raise EngineError(
                "auth",
                f"The server refused access to {self._channel} (HTTP status {min(refused)}).",
            )
        return Document(Known(None))

    @property
    def _suffixes(self) -> Sequence[str]:
        # On this machine nothing is won by the others, which may be older.
        return ("", *_SUFFIXES) if self._local else _SUFFIXES

    def _probe(self, name: str) -> None:
        if self._local is not None:
            _status(self._local / name)
        else:
            self._open(self._request(name, "HEAD")).close()

    def _ask(self, name: str, suffix: str, known: Known | None) -> Document:
        """Raises `_Absent`."""
        if self._local is not None:
            return self._ask_local(self._local / f"{name}{suffix}", suffix, known)
        request = self._request(name + suffix, "GET")
        if not suffix:
            request.add_header("Accept-Encoding", "gzip")
        if known is not None and known.etag:
            request.add_header("If-None-Match", known.etag)
        if known is not None and known.last_modified:
            request.add_header("If-Modified-Since", known.last_modified)
        answer = self._open(request)
        if answer is None:
            assert known is not None
            return Document(known)
        path = self._directory / f"{name}{suffix}".replace("/", "-")
        with answer:
            digest = self._receive(answer, path, name + suffix)
            headers = answer.headers
        if known is not None and known.digest == digest:
            # A server without validators.
            path.unlink()
            return Document(known)
        encoding = suffix[1:] or ("gzip" if headers.get("Content-Encoding") == "gzip" else "")
        now = Known(suffix, headers.get("ETag"), headers.get("Last-Modified"), digest)
        return Document(now, path, encoding)

    def _ask_local(self, path: Path, suffix: str, known: Known | None) -> Document:
        status = _status(path)
        if status.st_size > self._limits["download_bytes"]:
            raise self._too_large(path.name)
        now = Known(suffix, f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}")
        return Document(now) if now == known else Document(now, path, suffix[1:])

    def _request(self, name: str, method: str) -> urllib.request.Request:
        headers = {"User-Agent": _USER_AGENT, "Accept": "*/*"}
        request = urllib.request.Request(f"{self._base}/{name}", headers=headers, method=method)
        if self._authorization is not None:
            # A redirect to another place does not take it along.
            request.add_unredirected_header("Authorization", self._authorization)
        return request

    def _open(self, request: urllib.request.Request) -> Any:
        """The answer; None if the document is as it was. Raises `_Absent`."""
        stall_s = self._limits.get("stall_s", _STALL_S)
        try:
            return self._opener.open(request, timeout=stall_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.client.NOT_MODIFIED:
                return None
            if error.code in _ABSENT | _REFUSED:
                raise _Absent(error.code) from None
            raise self._failed(f"HTTP status {error.code}") from None
        except urllib.error.URLError as error:
            raise self._failed(error.reason) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failed(error) from None

    def _receive(self, answer: Any, path: Path, name: str) -> str:
        """Writes the body to a file; its hash."""
        digest, size, limit = hashlib.sha256(), 0, self._limits["download_bytes"]
        stall_s = self._limits.get("stall_s", _STALL_S)
        due, reached = time.monotonic() + stall_s, 0
        length = answer.headers.get("Content-Length")
        try:
            with path.open("wb") as file:
                while data := answer.read1(_READ_BYTES):
                    digest.update(data)
                    size += len(data)
                    if size > limit:
                        raise self._too_large(name)
                    _write(file, data)
                    if time.monotonic() > due:
                        if size - reached < _STALL_BYTES:
                            raise self._failed(f"no data for {stall_s:g} s")
                        due, reached = time.monotonic() + stall_s, size
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._failed(error) from None
        if length is not None and length != str(size):
            raise self._failed(f"{name} ended after {size} of {length} bytes")
        return digest.hexdigest()

    def _failed(self, reason: object) -> EngineError:
        text = str(reason) or type(reason).__name__
        return EngineError("network", f"Could not fetch {self._channel}: {text}")

    def _too_large(self, name: str) -> EngineError:
        limit = self._limits["download_bytes"]
        return EngineError(
            "package", f"{name} of {self._channel} is larger than the limit of {limit} bytes."
        )


def _write(file: Any, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as error:
        raise EngineError("disk", f"The index could not be written: {error.strerror}") from None


def _status(path: Path) -> os.stat_result:
    """Raises `_Absent` unless it is a file."""
    try:
        status = path.stat()
    except OSError:
        raise _Absent(404) from None
    if not stat.S_ISREG(status.st_mode):
        raise _Absent(404)
    return status


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and nothing else: a redirect must not lead to a file of this machine, or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener
