"""A base that is in a registry, fetched once: its own small client of the pull protocol."""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

from condastore.engine.credentials import opened
from condastore.engine.events import EngineError, Kind
from condastore.engine.image.base_images import (
    MANIFEST_BYTES,
    check_platform,
    checked_json,
    layer_of,
    manifest_for,
    proper,
    read_pieces,
)
from condastore.engine.jobs import BaseJob, Credential

_ACCEPTED = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_REFERENCE = re.compile(
    r"(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<name>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_LOOPBACK = {"localhost", "127.0.0.1"}
_TIMEOUT_S = 60
_ATTEMPTS = 3
_RETRY_S = 1.0


def remote_base(job: BaseJob, directory: Path) -> dict[str, Any]:
    """Fetches the layers of an image."""
    match = _REFERENCE.fullmatch(job["reference"])
    if match is None:
        raise EngineError(
            "spec",
            f"The base of images, {job['reference']!r}, is neither `host`, nor the absolute path "
            "of a file, nor a reference with the name of its registry.",
        )
    registry = _Registry(match["host"], match["name"], job["credentials"])
    reference = match["digest"] or match["tag"] or "latest"
    document, digest = registry.manifest(reference)
    if match["digest"] not in (None, digest):
        raise EngineError("hash", f"The registry's image is {digest}, not {match['digest']}.")
    top = digest
    if "manifests" in document:
        digest = manifest_for(document, job["platform"])
        document = checked_json(registry.get(f"manifests/{proper(digest)}"), digest)
    config_digest = document["config"]["digest"]
    config = checked_json(registry.get(f"blobs/{proper(config_digest)}"), config_digest)
    check_platform(config, job["platform"])
    layers = []
    for descriptor, diff_id in zip(document["layers"], config["rootfs"]["diff_ids"], strict=True):
        pieces = registry.get(f"blobs/{proper(descriptor['digest'])}")
        layers.append(layer_of(descriptor, diff_id, pieces, job["codec"], job["level"], directory))
    name = f"{match['host']}/{match['name']}:{match['tag'] or 'latest'}@{top}"
    return {"layers": layers, "config": config, "glibc": None, "sources": [], "name": name}


class _Registry:
    """One repository of a registry."""

    def __init__(self, host: str, name: str, credentials: Sequence[Credential]) -> None:
        # As container engines do: only this machine's own registries may go without encryption.
        scheme = "http" if host.partition(":")[0] in _LOOPBACK else "https"
        self._url = f"{scheme}://{host}/v2/{name}"
        self._secret = opened(f"{scheme}://{host}", credentials)[1]
        self._token = self._secret

    def manifest(self, reference: str) -> tuple[Any, str]:
        """A manifest and its digest."""
        data = b"".join(self.get(f"manifests/{reference}"))
        return json.loads(data), f"sha256:{hashlib.sha256(data).hexdigest()}"

    def get(self, path: str) -> Iterator[bytes]:
        """What the registry answers, in pieces."""
        limit = MANIFEST_BYTES if path.startswith("manifests/") else None
        with self._open(f"{self._url}/{path}") as answer:
            count = 0
            for piece in read_pieces(answer):
                count += len(piece)
                if limit is not None and count > limit:
                    raise EngineError("spec", "The manifest of the base of images is too large.")
                yield piece

    def _open(self, url: str) -> HTTPResponse:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._request(url)
            except HTTPError as error:
                if error.code == 401 and attempt == 1:
                    self._log_in(error.headers.get("WWW-Authenticate") or "")
                elif error.code < 500 and error.code != 429:
                    kind: Kind = "auth" if error.code in (401, 403) else "network"
                    raise EngineError(kind, f"{url}: HTTP status {error.code}") from None
                elif attempt == _ATTEMPTS:
                    raise EngineError("network", f"{url}: HTTP status {error.code}") from None
                else:
                    time.sleep(_RETRY_S * attempt)
            except (URLError, HTTPException, TimeoutError) as error:
                if attempt == _ATTEMPTS:
                    raise EngineError("network", f"{url}: {error}") from None
                time.sleep(_RETRY_S * attempt)
        raise EngineError("auth", f"{url}: the registry does not accept its own token.")

    def _request(self, url: str) -> HTTPResponse:
        request = Request(url, headers={"Accept": ", ".join(_ACCEPTED)})
        if self._token is not None:
            # Blobs are often elsewhere, where the token is nobody's business.
            request.add_unredirected_header("Authorization", self._token)
        answer: HTTPResponse = urlopen(request, timeout=_TIMEOUT_S)
        return answer

    def _log_in(self, challenge: str) -> None:
        scheme, _, rest = challenge.partition(" ")
        parameters = dict(_PARAMETER.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in parameters:
            raise EngineError("auth", f"{self._url}: the registry refuses access.")
        realm = urlsplit(parameters["realm"])
        if realm.scheme != "https" and realm.hostname not in _LOOPBACK:
            raise EngineError("auth", f"{self._url}: the registry's login is not encrypted.")
        query = {name: parameters[name] for name in ("service", "scope") if name in parameters}
        request = Request(f"{parameters['realm']}?{urlencode(query)}")
        if self._secret is not None:
            request.add_unredirected_header("Authorization", self._secret)
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as answer:
                granted = json.loads(answer.read(MANIFEST_BYTES))
            self._token = f"Bearer {granted.get('token') or granted['access_token']}"
        except HTTPError as error:
            reason = f"{self._url}: the registry's login answers with HTTP status {error.code}"
            raise EngineError("auth", reason) from None
        except (OSError, ValueError, KeyError) as error:
            raise EngineError("network", f"{self._url}: the login failed: {error}") from None
