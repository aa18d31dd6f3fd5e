"""One environment: what is in it, its builds, how to use it, and what can be done with it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from starlette.datastructures import URL
from starlette.responses import Response

from condastore.build_rows import arn as build_arn
from condastore.builds import FINAL, ArtifactType, BuildStatus, file_suffix
from condastore.errors import InvalidInput
from condastore.http.ui import specification_text, using, views
from condastore.http.ui.differences import (
    asked_for,
    asked_of_pip,
    compare,
    conda_requirements,
    needed_by,
    pip_requirements,
    ways,
)
from condastore.http.ui.phrases import size_text
from condastore.http.ui.using import DOWNLOADS, NAMES, PATHS, Usable
from condastore.http.ui.views import Action, View
from condastore.service import environments, forms, images, overview
from condastore.service.forms import PipPackage
from condastore.service.overview import BuildLine
from condastore.tables import Build, Environment

PAGE_SIZE = 30
TABS = ("packages", "builds", "use", "specification")
MAX_ID = 2**63 - 1


async def show(view: View) -> Response:
    """The page, one part of it at a time."""
    environment = await _environment(view)
    arn = f"{environment.namespace.name}/{environment.name}"
    tab = view.query.get("tab", TABS[0])
    current = await shown_build(view, environment)
    lines = await overview.list_builds_of(
        view.parts, view.caller, arn, environment.id, page=view.page_number, size=PAGE_SIZE
    )
    newest = lines.rows[0] if view.page_number == 1 and lines.rows else None
    return await view.page(
        "environment.html",
        environment=environment,
        namespace=environment.namespace.name,
        arn=arn,
        tab=tab if tab in TABS else TABS[0],
        current=current,
        builds=lines,
        newest=newest,
        is_usable=current.status == BuildStatus.COMPLETED,
        added=added(lines.rows),
        requested=conda_requirements(current.specification.spec),
        is_live=any(line.status not in FINAL for line in lines.rows),
        **await _part(view, environment, current, tab),
    )


async def shown_build(view: View, environment: Environment) -> Build:
    """Returns the active build of an environment; where none was completed yet, the newest."""
    build = await overview.get_build(view.parts, view.caller, environment.current_build_id or 0)
    if build.status == BuildStatus.COMPLETED:
        return build
    found = await overview.list_builds_of(
        view.parts, view.caller, build_arn(build), environment.id, page=1, size=1
    )
    newest = found.rows[0].id
    return (
        build if newest == build.id else await overview.get_build(view.parts, view.caller, newest)
    )


async def _part(view: View, environment: Environment, current: Build, tab: str) -> dict[str, Any]:
    """Returns what one part of the page needs besides."""
    if tab == "use":
        return {"use": await _ways(view, environment, current)}
    if tab == "specification":
        return {"text": await text_of_build(current)}
    if tab == "builds":
        return {}
    return await package_table(view, current)


def added(lines: Sequence[BuildLine]) -> dict[int, int]:
    """Returns by how many bytes builds, the newest first, are larger than the one before them."""
    whole = [line for line in lines if line.status == BuildStatus.COMPLETED]
    return {new.id: new.size - old.size for new, old in pairwise(whole)}


async def package_table(view: View, build: Build) -> dict[str, Any]:
    """Returns the packages of a build, and why each of them is there."""
    found = (await overview.packages_of(view.parts, [build.id]))[build.id]
    spec = build.specification.spec
    asked = asked_for(spec)
    return {
        "packages": found,
        "asked": asked,
        "users": needed_by(found),
        "ways": ways(found, asked),
        "requirements": pip_requirements(spec),
        "pip": await pip_table(view, build),
        "is_lockfile": build.specification.is_lockfile,
    }


@dataclass(frozen=True)
class PipTable:
    """What pip installed of a build, and why."""

    packages: list[PipPackage]
    asked: frozenset[str]
    users: dict[str, list[str]]
    ways: dict[str, list[str]]


async def pip_table(view: View, build: Build) -> PipTable:
    """Returns the packages of a build that pip installed."""
    spec = build.specification.spec
    found: list[PipPackage] = []
    if build.specification.is_lockfile or pip_requirements(spec):
        found = await forms.pip_packages(view.parts, build)
    asked = asked_of_pip(spec)
    return PipTable(found, asked, needed_by(found), ways(found, asked))


async def text_of_build(build: Build) -> str:
    """Returns the text of a build's specification."""
    row = build.specification
    return await asyncio.to_thread(
        specification_text.text_of, row.spec, is_lockfile=row.is_lockfile
    )


async def difference(view: View) -> Response:
    """What two builds of an environment differ in."""
    environment = await _environment(view)
    ids = [_number(view.query.get(key, "")) for key in ("from", "to")]
    pair = [await overview.get_build(view.parts, view.caller, build_id) for build_id in ids]
    if any(build.environment_id != environment.id for build in pair):
        raise InvalidInput("both builds must be builds of this environment")
    old, new = pair
    found = await overview.packages_of(view.parts, ids)
    texts = [await text_of_build(build) for build in pair]
    by_pip = {build.id: await pip_table(view, build) for build in pair}
    pips = [by_pip[build.id] for build in pair]
    return await view.page(
        "difference.html",
        environment=environment,
        namespace=environment.namespace.name,
        old=old,
        new=new,
        difference=compare(
            found[old.id],
            found[new.id],
            asked_for(old.specification.spec),
            asked_for(new.specification.spec),
        ),
        by_conda={
            build.id: {
                "users": needed_by(found[build.id]),
                "ways": ways(found[build.id], asked_for(build.specification.spec)),
            }
            for build in pair
        },
        by_pip=by_pip,
        pip_difference=compare(pips[0].packages, pips[1].packages, pips[0].asked, pips[1].asked),
        same_specification=texts[0] == texts[1],
    )


async def act(view: View) -> Response:
    """What a form on the page asks for."""
    return await views.act(view, _ACTIONS)


async def _activate(view: View, form: dict[str, str]) -> Response:
    build_id = _number(form.get("build_id", ""))
    await _update(view, build_id=build_id)
    return view.redirect(_url(view), f"Build {build_id} is the active one now.")


async def _describe(view: View, form: dict[str, str]) -> Response:
    await _update(view, description=form.get("description", ""))
    return view.redirect(_url(view), "The description is changed.")


async def _update(
    view: View, *, build_id: int | None = None, description: str | None = None
) -> None:
    await environments.update_environment(
        view.parts,
        view.caller,
        view.name("namespace"),
        view.name("environment"),
        build_id=build_id,
        description=description,
    )


async def _delete(view: View, form: dict[str, str]) -> Response:
    del form
    namespace, name = view.name("namespace"), view.name("environment")
    size = await environments.delete_environment(view.parts, view.caller, namespace, name)
    return view.redirect(
        view.url(), f"{namespace}/{name} is being deleted: its builds take {size_text(size)}."
    )


_ACTIONS: dict[str, Action] = {
    "activate": _activate,
    "describe": _describe,
    "delete": _delete,
}


async def _environment(view: View) -> Environment:
    return await overview.get_environment(
        view.parts, view.caller, view.name("namespace"), view.name("environment")
    )


def _url(view: View) -> str:
    return view.url("environment", view.name("namespace"), view.name("environment"), tab="builds")


def _number(text: str) -> int:
    """Returns the number of a build that a form or an address names."""
    digits = text.strip()
    if not (digits.isascii() and digits.isdigit()) or len(digits) > len(str(MAX_ID)):
        raise InvalidInput("choose a build")
    return int(digits)


async def _ways(view: View, environment: Environment, current: Build) -> dict[str, Any] | None:
    """Returns the ways to use an environment; None while there is nothing to use."""
    forms = {row.artifact_type: row.key for row in current.build_artifacts}
    if ArtifactType.DIRECTORY not in forms or current.build_key_version == 3:
        return None
    namespace, name = environment.namespace.name, environment.name
    url = URL(scope=view.request.scope)
    image, tag = await _image(view, current)
    installed = (await overview.packages_of(view.parts, [current.id]))[current.id]
    is_public = view.parts.identities.anonymous.allows("environment::read", f"{namespace}/{name}")
    usable = Usable(
        namespace,
        name,
        current.id,
        str(view.parts.store.environment_link(namespace, name)),
        f"{url.scheme}://{url.netloc}{view.url_prefix}",
        image,
        tag,
        frozenset(package.name for package in installed),
        forms,
        is_public,
    )
    return {
        "ways": list(using.ways(usable)),
        "names": NAMES,
        "is_public": is_public,
        "api": f"{view.url_prefix}/api/v1/build/{current.id}",
        "downloads": [
            (NAMES[form], PATHS[form], f"{name}-{current.id}{file_suffix(form, forms[form])}")
            for form in DOWNLOADS
            if form in forms
        ],
    }


async def _image(view: View, build: Build) -> tuple[str | None, str]:
    """Returns what to pull, and the tag of exactly this build.

    None where there is no registry, or the environment's name can't be one's there.
    """
    state = view.request.app.state
    name = await images.image_name(view.parts, view.caller, build.id)
    if name is None or not state.has_registry:
        return None, ""
    repository, _, tag = name.partition(":")
    return f"{state.registry_host or view.request.url.netloc}/{repository}:latest", tag
