"""What the storage holds as responses: ranges, validators, HEAD, and names for files (RFC 9110).

Archives, installers, lockfiles, logs and blobs of images are all served from here. Memory use does
not depend on their size.
"""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Send

from condastore.storage import Storage

_RANGE = re.compile(r"[ \t]*bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(W/)?"([^"]*)"')
_UNSAFE = re.compile(r"[^A-Za-z0-9!#$&+.^_`|~@=-]")
# More digits than any size has; int() takes time for millions of them.
_MAX_DIGITS = 18


class Unsatisfiable(Exception):
    """A range that the representation has nothing of."""


@dataclass(frozen=True)
class Span:
    """A run of bytes."""

    start: int
    length: int

    def of(self, size: int) -> str:
        """Returns it as `Content-Range` says it."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


@dataclass(frozen=True)
class Download:
    """Which bytes are served, and what is said of them."""

    key: str
    media_type: str
    etag: str | None = None
    """Without quotes; what the storage says of the version if there is none."""
    filename: str | None = None
    """Under which a browser should save it; None shows it instead."""
    headers: Mapping[str, str] = field(default_factory=dict)


def parse_range(header: str | None, size: int) -> Span | None:
    """Returns the one range that a request asks for; None for the whole.

    Several ranges, other units and what can't be understood mean the whole, as a server may choose
    (RFC 9110 §14.2). Raises `Unsatisfiable`.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match.groups() == ("", "") or max(map(len, match.groups())) > _MAX_DIGITS:
        return None
    first, last = match.groups()
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if start > end:
        raise Unsatisfiable
    return Span(start, end - start + 1)


def is_listed(etag: str, header: str | None) -> bool:
    """Whether `If-None-Match` names a tag, compared weakly."""
    if not header:
        return False
    return header.strip() == "*" or any(tag == etag for _, tag in _TAG.findall(header))


def disposition(filename: str) -> str:
    """Returns a `Content-Disposition` that saves under a name, whatever is in that (RFC 6266)."""
    plain = _UNSAFE.sub("_", filename)
    text = f'attachment; filename="{plain}"'
    if plain == filename:
        return text
    return f"{text}; filename*=UTF-8''{quote(filename.encode('utf-8', 'replace'), safe='')}"


async def respond(request: Request, storage: Storage, wanted: Download) -> Response | None:
    """Answers a GET or HEAD with what is under a key; None if there is nothing.

    Where the storage has a URL for it, a GET is sent there.
    """
    stored = await storage.stat(wanted.key)
    if stored is None:
        return None
    etag = wanted.etag or stored.version
    headers = {**wanted.headers, "Accept-Ranges": "bytes", "ETag": f'"{etag}"'}
    if wanted.filename is not None:
        headers["Content-Disposition"] = disposition(wanted.filename)
    if is_listed(etag, request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = _typed(wanted.media_type)
    if request.method == "HEAD":
        headers["Content-Length"] = str(stored.size)
        return Response(headers=headers)
    url = await storage.url(wanted.key, media_type=wanted.media_type, filename=wanted.filename)
    if url is not None:
        # The address is good for a while only, unlike the bytes.
        return RedirectResponse(url, 307, {**wanted.headers, "Cache-Control": "private, no-store"})
    try:
        span = parse_range(_range_header(request, etag), stored.size)
    except Unsatisfiable:
        del headers["Content-Type"]
        headers["Content-Range"] = f"bytes */{stored.size}"
        return Response(status_code=416, headers=headers)
    headers["Content-Length"] = str(stored.size if span is None else span.length)
    if span is not None:
        headers["Content-Range"] = span.of(stored.size)
    pieces = storage.read(wanted.key, *((span.start, span.length) if span else (0, stored.size)))
    try:
        first = await anext(pieces, b"")
    except FileNotFoundError:
        return None
    return StoredBytes(first, pieces, 206 if span else 200, headers)


def _typed(media_type: str) -> str:
    return f"{media_type}; charset=utf-8" if media_type.startswith("text/") else media_type


def _range_header(request: Request, etag: str) -> str | None:
    """Returns `Range`, unless `If-Range` says that it is about other bytes."""
    condition = request.headers.get("if-range")
    if condition is not None and condition.strip() != f'"{etag}"':
        return None
    return request.headers.get("range")


class StoredBytes(StreamingResponse):
    """Pieces of which one was read before the answer began, so that it can't begin in vain.

    What they are read from is closed as soon as nobody reads on.
    """

    def __init__(
        self,
        first: bytes,
        others: AsyncIterator[bytes],
        status_code: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(others, status_code, headers)
        self._first = first

    async def stream_response(self, send: Send) -> None:
        """Sends everything, piece by piece."""
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        async with aclosing(cast(AsyncGenerator[bytes], self.body_iterator)) as others:
            if self._first:
                await send(_piece(self._first))
            async for data in others:
                await send(_piece(data))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}
