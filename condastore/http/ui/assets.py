"""Scripts and styles: served from memory, for good, at an address that changes with them."""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

DIRECTORY = Path(__file__).parent / "static"
FOREVER = "public, max-age=31536000, immutable"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# So short answers are not worth the work of packing them.
_PACKED_BYTES = 1000


@dataclass(frozen=True)
class _File:
    data: bytes
    packed: bytes
    media_type: str
    etag: str


class Assets:
    """All files of the interface. They import each other, so one digest stands for all."""

    @cached_property
    def files(self) -> dict[str, _File]:
        """The files by name."""
        return {
            path.name: _read(path) for path in sorted(DIRECTORY.iterdir()) if path.suffix in _TYPES
        }

    @cached_property
    def digest(self) -> str:
        """A hash of all files."""
        text = "".join(f"{name}{file.etag}" for name, file in self.files.items())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    async def serve(self, request: Request) -> Response:
        """`static/DIGEST/NAME`; an older digest gets what there is now, and may not keep it."""
        file = self.files.get(request.path_params["name"])
        if file is None:
            return Response("Not Found", 404, media_type="text/plain")
        is_current = request.path_params["digest"] == self.digest
        return answer(request, file, FOREVER if is_current else "no-cache")

    async def icon(self, request: Request) -> Response:
        """`/favicon.ico`."""
        return answer(request, self.files["icon.svg"], "public, max-age=86400")


def answer(request: Request, file: _File, caching: str) -> Response:
    """Returns a file, packed for who can unpack it."""
    headers = {"Cache-Control": caching, "ETag": file.etag, "Vary": "Accept-Encoding"}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    data = file.data
    if accepts_gzip(request) and file.packed:
        data, headers["Content-Encoding"] = file.packed, "gzip"
    return Response(data, headers=headers, media_type=file.media_type)


def accepts_gzip(request: Request) -> bool:
    """Whether whoever asks can unpack gzip (RFC 9110 §12.5.3)."""
    accepted = request.headers.get("accept-encoding", "")
    return any(entry.strip() in ("gzip", "gzip;q=1.0") for entry in accepted.split(","))


def _read(path: Path) -> _File:
    data = path.read_bytes()
    packed = gzip.compress(data, 9, mtime=0) if len(data) > _PACKED_BYTES else b""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    return _File(data, packed, _TYPES[path.suffix], etag)
