"""The container registry, `/v2/`: the pull side of the OCI distribution specification 1.1."""

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from condastore import oci
from condastore.auth.registry_tokens import RegistryTokens
from condastore.errors import CondaStoreError, RegistryError
from condastore.http import bytes as stored_bytes
from condastore.http.operations import ROUTE, unless_gone
from condastore.http.problems import json_response
from condastore.http.registry_auth import TOKEN_PATH, Puller, RegistryAuth, problem
from condastore.image_configuration import ContainerRegistry
from condastore.service import registry
from condastore.service.image_waiting import RETRY_AFTER_S, ImageWaiting, Pending
from condastore.service.on_demand import OnDemand
from condastore.service.parts import Parts
from condastore.service.repositories import PULL, Repository
from condastore.tables import Manifest

VERSION = {"Docker-Distribution-API-Version": "registry/2.0"}
IMMUTABLE = "private, max-age=31536000, immutable"
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
# What doesn't fit into a page of this many, a client asks for by the Link.
MAX_REFERRERS = 500
HOP = "hop"
_RESOURCE = re.compile(
    r"(?P<name>.+)/(?P<kind>manifests|blobs|tags|referrers)/(?P<reference>[^/]+)"
)
_NUMBER = re.compile("[0-9]{1,18}")

Answer = Callable[[Request, Puller, Repository, str], Awaitable[Response]]


class Registry:
    """What registries' clients ask for."""

    def __init__(
        self, parts: Parts, config: ContainerRegistry, tokens: RegistryTokens, url_prefix: str
    ) -> None:
        self._parts = parts
        self._config = config
        self._auth = RegistryAuth(tokens, config, url_prefix)
        self._waiting = ImageWaiting(parts, config)
        self._on_demand = OnDemand(parts, config)
        self._answers: Mapping[str, Answer] = {
            "manifests": self._manifest,
            "blobs": self._blob,
            "tags": self._tags,
            "referrers": self._referrers,
        }

    @property
    def routes(self) -> list[BaseRoute]:
        """The routes of the registry, which clients expect at the root of the host."""
        return [
            Route("/v2", self.answer, methods=METHODS),
            Route("/v2/{path:path}", self.answer, methods=METHODS),
        ]

    @property
    def token_routes(self) -> list[BaseRoute]:
        """The routes below the URL prefix."""
        return [Route(TOKEN_PATH, self._auth.token, methods=["GET", "POST"])]

    async def answer(self, request: Request) -> Response:
        """Everything below `/v2/`; errors have the form that clients show."""
        path = request.path_params.get("path", "")
        match = _RESOURCE.fullmatch(path)
        kind = match["kind"] if match else ""
        request.scope[ROUTE] = f"/v2/{{name}}/{kind}/{{reference}}" if match else "/v2/"
        try:
            if request.method not in ("GET", "HEAD"):
                raise RegistryError("UNSUPPORTED", "images can be pulled from here, not pushed")
            puller = await self._auth.puller(request)
            if path and match is None:
                raise RegistryError("NAME_UNKNOWN", "there is nothing at this path")
            if match is None:
                response = self._ping(request)
            else:
                repository = self._allowed(puller, match["name"])
                answer = self._answers[kind]
                response = await answer(request, puller, repository, match["reference"])
        except CondaStoreError as error:
            response = self._refusal(request, error, match["name"] if match else None)
        response.headers.update(VERSION)
        return response

    def _allowed(self, puller: Puller, name: str) -> Repository:
        """Returns a repository that may be pulled from; whether it is there otherwise is no
        stranger's business."""
        repository = self._auth.repository(name)
        if PULL not in puller.allows(repository):
            raise RegistryError("DENIED", f"{name} is not there, or may not be pulled; log in")
        return repository

    def _ping(self, request: Request) -> Response:
        """Whoever has no credentials learns here where to get a token, if only to log in."""
        if "authorization" not in request.headers:
            raise RegistryError("UNAUTHORIZED", "a token is needed, if only one for everybody")
        return json_response({})

    def _refusal(self, request: Request, error: CondaStoreError, name: str | None) -> Response:
        if not isinstance(error, RegistryError):
            error = RegistryError("DENIED", str(error), error.status)
        response = problem(error)
        if error.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = self._auth.challenge(request, error, name)
        if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "GET, HEAD"
        if error.status == HTTPStatus.TOO_MANY_REQUESTS:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    # Manifests

    async def _manifest(
        self, request: Request, puller: Puller, repository: Repository, reference: str
    ) -> Response:
        if ":" in reference:
            _check_digest(reference)
            manifest = await registry.find_manifest(self._parts, repository, reference)
            if manifest is None:
                raise await self._unknown(repository, "MANIFEST_UNKNOWN", reference)
            return await self._served(request, manifest, IMMUTABLE)
        if not oci.is_tag(reference):
            raise RegistryError("MANIFEST_UNKNOWN", f"{reference[:130]!r} can't be a tag")
        build_id = await self._build_id(puller, repository, reference)
        found = await unless_gone(request, self._waiting.wait(build_id))
        if isinstance(found, Pending):
            return self._later(request, found)
        manifest = await registry.find_manifest(self._parts, repository, found)
        if manifest is None:
            raise RegistryError("MANIFEST_UNKNOWN", "the image has been removed meanwhile")
        chosen = await self._negotiated(request, manifest)
        return await self._served(request, chosen, "private, no-cache")

    async def _build_id(self, puller: Puller, repository: Repository, tag: str) -> int:
        if repository.specs:
            build_id = await self._on_demand.build_id(
                puller.name, puller.allows(repository), repository, tag
            )
        else:
            build_id = await registry.find_build_id(self._parts, repository, tag)
        if build_id is None:
            raise await self._unknown(repository, "MANIFEST_UNKNOWN", tag)
        return build_id

    def _later(self, request: Request, pending: Pending) -> Response:
        """Sends a client that has waited for a while to the same place again, a few times."""
        hop = request.query_params.get(HOP, "0")
        hops = int(hop) if _NUMBER.fullmatch(hop) else 0
        if hops < self._config.max_redirects:
            return RedirectResponse(f"{quote(request.url.path)}?{HOP}={hops + 1}", 307)
        raise RegistryError(
            "TOOMANYREQUESTS", f"{pending.text}; it goes on, so pull again in a while"
        )

    async def _negotiated(self, request: Request, manifest: Manifest) -> Manifest:
        """Returns an image in the form that a client accepts."""
        accepted = accepted_types(request.headers.getlist("accept"))
        twin_type = oci.DOCKER_INDEX if manifest.media_type == oci.INDEX else oci.DOCKER_MANIFEST
        singles = {oci.MANIFEST, oci.DOCKER_MANIFEST}
        if not accepted or "*/*" in accepted or manifest.media_type in accepted:
            return manifest
        if not accepted & {twin_type, *singles}:
            return manifest
        is_index = manifest.media_type == oci.INDEX
        if twin_type in accepted or (oci.MANIFEST not in accepted and is_index):
            twin = await registry.docker_twin_of(self._parts, manifest)
            if twin is None:
                raise RegistryError(
                    "MANIFEST_UNKNOWN",
                    "this image has no form in Docker's old schema; use a newer client",
                )
            manifest = twin
        if is_index and twin_type not in accepted:
            # A client that knows no indexes.
            return await registry.first_child(self._parts, manifest) or manifest
        return manifest

    async def _served(self, request: Request, manifest: Manifest, caching: str) -> Response:
        await registry.note_pull(self._parts, manifest)
        headers = {
            "Docker-Content-Digest": manifest.digest,
            "ETag": f'"{manifest.digest}"',
            "Cache-Control": caching,
        }
        if stored_bytes.is_listed(manifest.digest, request.headers.get("if-none-match")):
            return Response(status_code=304, headers=headers)
        headers |= {"Content-Type": manifest.media_type, "Content-Length": str(len(manifest.body))}
        return Response(b"" if request.method == "HEAD" else manifest.body, headers=headers)

    # Blobs

    async def _blob(
        self, request: Request, puller: Puller, repository: Repository, reference: str
    ) -> Response:
        del puller
        _check_digest(reference)
        blob = await registry.find_blob(self._parts, repository, reference)
        if blob is None:
            raise await self._unknown(repository, "BLOB_UNKNOWN", reference)
        wanted = stored_bytes.Download(
            oci.blob_key(blob.digest),
            "application/octet-stream",
            etag=blob.digest,
            headers={"Docker-Content-Digest": blob.digest, "Cache-Control": IMMUTABLE},
        )
        response = await stored_bytes.respond(request, self._parts.storage, wanted)
        if response is None:
            logging.getLogger(__name__).error("blob %s is not in the storage", blob.digest)
            raise RegistryError("BLOB_UNKNOWN", "the blob is not in the storage")
        return response

    # Lists

    async def _tags(
        self, request: Request, puller: Puller, repository: Repository, reference: str
    ) -> Response:
        if reference != "list":
            raise RegistryError("NAME_UNKNOWN", "there is nothing at this path")
        tags = await registry.list_tags(self._parts, repository)
        if repository.specs:
            tags = self._on_demand.tags(puller.allows(repository), tags)
        if not tags and not await registry.exists(self._parts, repository):
            raise _no_repository(repository)
        page, last = _page(request, tags)
        response = json_response({"name": repository.name, "tags": page})
        if last is not None:
            path = f"/v2/{repository.name}/tags/list"
            response.headers["Link"] = (
                f'<{path}?n={request.query_params["n"]}&last={quote(last)}>; rel="next"'
            )
        return response

    async def _referrers(
        self, request: Request, puller: Puller, repository: Repository, reference: str
    ) -> Response:
        del puller
        _check_digest(reference)
        if not await registry.exists(self._parts, repository) and not repository.specs:
            raise _no_repository(repository)
        found = await registry.list_referrers(self._parts, repository, reference)
        wanted = request.query_params.get("artifactType")
        if wanted:
            found = [manifest for manifest in found if manifest.artifact_type == wanted]
        after = request.query_params.get("last", "")
        rest = [manifest for manifest in found if manifest.digest > after]
        page = rest[:MAX_REFERRERS]
        index = {
            "schemaVersion": 2,
            "mediaType": oci.INDEX,
            "manifests": [_descriptor(manifest) for manifest in page],
        }
        response = Response(oci.canonical(index), media_type=oci.INDEX)
        if wanted:
            response.headers["OCI-Filters-Applied"] = "artifactType"
        if len(rest) > len(page):
            path = f"/v2/{repository.name}/referrers/{reference}"
            query = f"artifactType={quote(wanted, safe='')}&" if wanted else ""
            response.headers["Link"] = f'<{path}?{query}last={page[-1].digest}>; rel="next"'
        return response

    async def _unknown(self, repository: Repository, code: str, what: str) -> RegistryError:
        """Returns the error for what is not in a repository, or for one that is not there."""
        if not repository.specs and not await registry.exists(self._parts, repository):
            return _no_repository(repository)
        return RegistryError(code, f"{repository.name} has no {what}")


def accepted_types(headers: list[str]) -> set[str]:
    """Returns the media types in all Accept headers, without their parameters."""
    entries = ",".join(headers).split(",")
    return {kind for entry in entries if (kind := entry.partition(";")[0].strip().lower())}


def _descriptor(manifest: Manifest) -> dict[str, object]:
    found: dict[str, object] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.body),
    }
    if manifest.artifact_type is not None:
        found["artifactType"] = manifest.artifact_type
    annotations = oci.annotations(manifest.body)
    if annotations:
        found["annotations"] = annotations
    return found


def _page(request: Request, tags: list[str]) -> tuple[list[str], str | None]:
    """Returns the tags that are asked for, and the last of them if more follow."""
    number = request.query_params.get("n")
    if number is not None and not _NUMBER.fullmatch(number):
        raise RegistryError("UNSUPPORTED", f"n={number[:50]!r} should be a number", 400)
    after = request.query_params.get("last")
    rest = tags if after is None else [tag for tag in tags if tag > after]
    page = rest if number is None else rest[: int(number)]
    return page, page[-1] if page and len(page) < len(rest) else None


def _check_digest(text: str) -> None:
    if not oci.is_digest(text):
        raise RegistryError("DIGEST_INVALID", f"{text[:150]!r} is not a digest")


def _no_repository(repository: Repository) -> RegistryError:
    return RegistryError("NAME_UNKNOWN", f"there is no environment {repository.name}")
