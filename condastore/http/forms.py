"""What a build left behind, in the form that a request asks for."""

import hashlib
from typing import Any

import msgspec
from starlette.responses import Response

from condastore.builds import ArtifactType, media_type
from condastore.export import Pinned
from condastore.http import artifacts
from condastore.http.bytes import disposition, is_listed
from condastore.http.operations import Call
from condastore.http.parameters import NoBody
from condastore.lockfiles.forms import MEDIA_TYPES, Form, check_wanted
from condastore.service import forms
from condastore.service.forms import Document

LOCKFILE_MEDIA_TYPES = (media_type(ArtifactType.LOCKFILE), *sorted(set(MEDIA_TYPES.values())))


class LockfileQuery(msgspec.Struct, kw_only=True):
    """In which form; without one, as it is stored. `platform` is for `explicit`."""

    format: Form | None = None
    platform: str | None = None


class YamlQuery(msgspec.Struct, kw_only=True):
    """How exactly what is installed is pinned."""

    pinned: Pinned = Pinned.EXACT


async def lockfile(call: Call[LockfileQuery, NoBody], build_id: int) -> Response:
    """Returns a build's lockfile."""
    form, platform = call.query.format, call.query.platform
    check_wanted(form, platform)
    if form is None:
        return await artifacts.answer(call, build_id, ArtifactType.LOCKFILE)
    document = await forms.lockfile(call.parts, call.caller, build_id, form, platform)
    return _response(call, document)


async def environment_yaml(call: Call[YamlQuery, NoBody], build_id: int) -> Response:
    """Returns a build's environment.yaml."""
    match call.query.pinned:
        case Pinned.EXACT:
            return await artifacts.answer(call, build_id, ArtifactType.YAML)
        case Pinned.VERSIONS:
            return _response(call, await forms.versions(call.parts, call.caller, build_id))
        case Pinned.HISTORY:
            return _response(call, await forms.history(call.parts, call.caller, build_id))


def _response(call: Call[Any, NoBody], document: Document) -> Response:
    """Returns a document to be saved, or that the client has it already (RFC 9110 §13.1.2)."""
    body = document.text.encode()
    etag = hashlib.sha256(body).hexdigest()[:32]
    headers = {"ETag": f'"{etag}"', "Content-Disposition": disposition(document.file_name)}
    if is_listed(etag, call.request.headers.get("if-none-match")):
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=document.media_type, headers=headers)
