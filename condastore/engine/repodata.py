"""Keeps a gateway's memory of repodata as fresh as a job asks for."""

import os
import time
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from rattler import Gateway, Subdir

_Fingerprint = tuple[tuple[int, int, int] | None, ...]


class Freshness:
    """Knows how old what a gateway remembers is, and makes it forget what is too old."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._read_at: dict[tuple[str, str], float] = {}
        self._fingerprints: dict[tuple[str, str], _Fingerprint] = {}

    def ensure(self, channels: Sequence[str], subdir: str, ttl_s: float) -> None:
        """Forgets what a solve for `subdir` would use and that is older than `ttl_s`.

        A channel on this machine is read again when, and only when, its files have changed.
        """
        for channel in channels:
            for part in (subdir, "noarch"):
                if urlsplit(channel).scheme == "file":
                    self._follow_file(channel, part)
                else:
                    self._expire(channel, part, ttl_s)

    def _expire(self, channel: str, subdir: str, ttl_s: float) -> None:
        now = time.monotonic()
        read_at = self._read_at.get((channel, subdir))
        if read_at is None or now - read_at > ttl_s:
            self._gateway.clear_repodata_cache(channel, [Subdir(subdir)])
            self._read_at[channel, subdir] = now

    def _follow_file(self, channel: str, subdir: str) -> None:
        fingerprint = _fingerprint(os.path.join(unquote(urlsplit(channel).path), subdir))
        if self._fingerprints.get((channel, subdir)) != fingerprint:
            self._gateway.clear_repodata_cache(channel, [Subdir(subdir)])
            self._fingerprints[channel, subdir] = fingerprint


def _fingerprint(directory: str) -> _Fingerprint:
    return tuple(
        _stat(os.path.join(directory, name)) for name in ("repodata.json", "repodata.json.zst")
    )


def _stat(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)
