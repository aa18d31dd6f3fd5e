"""How layers are compressed; the same bytes give the same bytes again."""

from typing import Protocol

GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
# The header and trailer of gzip, as zlib's parameter calls them.
_GZIP_WINDOW = 31


class Compressor(Protocol):
    """What takes the pieces of a stream."""

    def compress(self, data: bytes, /) -> bytes:
        """The next compressed bytes, if there are any yet."""

    def flush(self) -> bytes:
        """The rest."""


def compressor(codec: str, level: int) -> Compressor:
    """A compressor of a layer."""
    # Each is imported where it is used: a layer needs one of them.
    if codec == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=level).compressobj()
    from isal import isal_zlib

    return isal_zlib.compressobj(level, isal_zlib.DEFLATED, _GZIP_WINDOW)


def media_type(codec: str) -> str:
    """What a layer with this compression is called."""
    return ZSTD if codec == "zstd" else GZIP
