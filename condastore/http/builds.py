"""`/api/v1/build/` (rest-api §4.6)."""

from typing import Literal

import msgspec
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from condastore.builds import ArtifactType, BuildStatus, cancel_message, media_type
from condastore.errors import InvalidInput
from condastore.http import artifacts, forms, shapes
from condastore.http.forms import LOCKFILE_MEDIA_TYPES, LockfileQuery, YamlQuery
from condastore.http.operations import Call, Plain, answers, stored
from condastore.http.parameters import NoBody, PageQuery, page_request
from condastore.service import builds, images, restoring
from condastore.service.builds import BuildFilter, PackageFilter

ARCHIVE_MEDIA_TYPE = "application/x-tar"
DEPRECATED = {"Deprecation": "True", "Sunset": "Mon, 17 Mar 2025 00:00:00 UTC"}


class ListQuery(PageQuery, kw_only=True):
    """Which builds, a page at a time."""

    status: BuildStatus | None = None
    artifact: ArtifactType | None = None
    packages: list[str] = []
    environment_id: int | None = None
    name: str = ""
    namespace: str = ""


class ImageQuery(msgspec.Struct, kw_only=True):
    """In which form an image is wanted; its name if none is said."""

    format: Literal["oci-archive"] | None = None


class PackagesQuery(PageQuery, kw_only=True):
    """Which packages, a page at a time."""

    search: str = ""
    exact: str = ""
    build: str = ""


async def list_(call: Call[ListQuery, NoBody]) -> shapes.Listed[shapes.Build]:
    """The builds of the environments that the caller may see."""
    query = call.query
    wanted = BuildFilter(
        query.status,
        query.artifact,
        query.packages,
        query.environment_id,
        query.name,
        query.namespace,
    )
    request = page_request(query, call.max_page_size)
    rows = await builds.list_builds(call.parts, call.caller, request, wanted)
    return shapes.page(rows, shapes.Build.listed)


async def get(call: Plain) -> shapes.Data[shapes.Build]:
    """One build with its specification and artifacts."""
    build = await builds.get_build(call.parts, call.caller, call.id("build_id"))
    return shapes.data(shapes.Build.of(build))


async def rebuild(call: Plain) -> shapes.Data[shapes.BuildId]:
    """Queues a new build of the same specification."""
    new_id = await builds.rebuild(call.parts, call.caller, call.id("build_id"))
    return shapes.data(shapes.BuildId(new_id), "rebuild triggered")


async def restore(call: Plain) -> shapes.Data[shapes.BuildId]:
    """Queues a build of exactly the packages that a deleted build had."""
    new_id = await restoring.restore(call.parts, call.caller, call.id("build_id"))
    return shapes.data(shapes.BuildId(new_id), "restore triggered")


async def cancel(call: Plain) -> shapes.Acknowledgement:
    """Cancels a build that waits or runs."""
    build_id = call.id("build_id")
    await builds.cancel(call.parts, call.caller, build_id)
    return shapes.acknowledge(cancel_message(build_id))


async def delete(call: Plain) -> shapes.Acknowledgement:
    """Deletes a build's files; the build itself stays in the history."""
    build_id = call.id("build_id")
    size = await builds.delete_build(call.parts, call.caller, build_id)
    return shapes.acknowledge(f"build {build_id} is being deleted ({size} bytes)")


async def packages(call: Call[PackagesQuery, NoBody]) -> shapes.Listed[shapes.Package]:
    """The packages of a build."""
    query = call.query
    wanted = PackageFilter(query.search, bool(query.exact), query.build)
    request = page_request(query, call.max_page_size)
    rows = await builds.list_packages(call.parts, call.caller, call.id("build_id"), request, wanted)
    return shapes.page(rows, shapes.Package.of)


@stored
@answers(*LOCKFILE_MEDIA_TYPES)
async def lockfile(call: Call[LockfileQuery, NoBody]) -> Response:
    """A build's lockfile: conda-lock version 1 as JSON, or in another form."""
    return await forms.lockfile(call, call.id("build_id"))


@stored
@answers(media_type(ArtifactType.YAML))
async def yaml(call: Call[YamlQuery, NoBody]) -> Response:
    """The environment.yaml of what was installed, more or less pinned, or of what was asked for."""
    return await forms.environment_yaml(call, call.id("build_id"))


@stored
@answers(media_type(ArtifactType.CONDA_PACK))
async def archive(call: Plain) -> Response:
    """A build as a conda-pack archive."""
    return await artifacts.answer(call, call.id("build_id"), ArtifactType.CONDA_PACK)


@stored
@answers(media_type(ArtifactType.CONSTRUCTOR_INSTALLER))
async def installer(call: Plain) -> Response:
    """A build as an installer."""
    return await artifacts.answer(
        call,
        call.id("build_id"),
        ArtifactType.CONSTRUCTOR_INSTALLER,
        missing="Build {id} doesn't have an installer",
    )


@answers("text/plain", ARCHIVE_MEDIA_TYPE)
async def docker(call: Call[ImageQuery, NoBody]) -> Response:
    """The name of a build's image, for `docker pull`; or the image itself, as an oci-archive."""
    state, build_id = call.request.app.state, call.id("build_id")
    if call.query.format is not None:
        found = await images.archive(call.parts, call.caller, build_id)
        headers = {
            "Content-Length": str(found.length),
            "Content-Disposition": f'attachment; filename="image-{build_id}.tar"',
        }
        content = found.read(call.parts.storage)
        return StreamingResponse(content, headers=headers, media_type=ARCHIVE_MEDIA_TYPE)
    name = await images.image_name(call.parts, call.caller, build_id)
    if name is None or not state.has_registry:
        raise InvalidInput(f"Build {build_id} doesn't have a docker manifest")
    host = state.registry_host or call.request.url.netloc
    return PlainTextResponse(f"{host}/{name}", headers=DEPRECATED)
