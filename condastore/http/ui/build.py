"""One build: how far it is, its log, why it failed, its packages and its artifacts."""

from datetime import timedelta
from typing import Any

from starlette.responses import Response

from condastore.build_rows import arn
from condastore.builds import ARTIFACT_TASKS, FINAL, ArtifactType, BuildStatus
from condastore.errors import InvalidInput, NotFound
from condastore.http.ui import views
from condastore.http.ui.differences import conda_requirements
from condastore.http.ui.environment import package_table, text_of_build
from condastore.http.ui.phrases import size_text
from condastore.http.ui.using import NAMES, PATHS
from condastore.http.ui.views import Action, View
from condastore.service import artifacts, builds, environments, logs, overview, restoring
from condastore.service.artifacts import ArtifactState
from condastore.tables import Build, age

TABS = ("log", "packages", "artifacts", "specification")
PHASES = ("solve", "fetch", "link", "bytecode", "pip", "permissions", "export")
# What is shown of a log where no script can fetch more.
TAIL_BYTES = 16 * 1024
SETTLING = timedelta(seconds=10)


async def show(view: View) -> Response:
    """The page, one part of it at a time."""
    build = await overview.get_build(view.parts, view.caller, view.id())
    tab = view.query.get("tab", TABS[0])
    is_over = build.status in FINAL
    forms = {row.artifact_type for row in build.build_artifacts}
    phases = await overview.phases_of(view.parts, build.id) if is_over else []
    waiting = None
    if build.status == BuildStatus.QUEUED:
        waiting = await overview.waiting(view.parts, build.id)
    return await view.page(
        "build.html",
        build=build,
        environment=build.environment,
        namespace=build.environment.namespace.name,
        arn=arn(build),
        tab=tab if tab in TABS else TABS[0],
        is_over=is_over,
        is_active=build.environment.current_build_id == build.id
        and build.status == BuildStatus.COMPLETED,
        has_lockfile=ArtifactType.LOCKFILE in forms,
        waiting=waiting,
        places=view.parts.pool.use["builds"][1],
        phases=phases,
        phase_names=PHASES,
        requested=conda_requirements(build.specification.spec),
        # The task of a build is closed a moment after the build.
        is_settling=build.ended_on is not None and not phases and age(build.ended_on) < SETTLING,
        **await _part(view, build, tab),
    )


async def _part(view: View, build: Build, tab: str) -> dict[str, Any]:
    """Returns what one part of the page needs besides."""
    if tab == "packages":
        return await package_table(view, build)
    if tab == "specification":
        return {"text": await text_of_build(build)}
    if tab == "artifacts":
        found = await artifacts.list_artifacts(view.parts, view.caller, build.id)
        under_way = ArtifactState.QUEUED, ArtifactState.RUNNING
        moving = any(row.state in under_way or row.is_pending for row in found)
        return {
            "artifacts": found,
            "names": NAMES,
            "paths": PATHS,
            "makeable": ARTIFACT_TASKS,
            "is_moving": moving,
        }
    try:
        size, tail = await logs.tail(view.parts, view.caller, build.id, TAIL_BYTES)
    except NotFound:
        size, tail = 0, ""
    return {"log_size": size, "log_tail": tail, "is_cut": size > TAIL_BYTES}


async def act(view: View) -> Response:
    """What a form on the page asks for."""
    return await views.act(view, _ACTIONS)


async def _cancel(view: View, form: dict[str, str]) -> Response:
    del form
    await builds.cancel(view.parts, view.caller, view.id())
    return view.redirect(view.url("build", view.id()), f"Build {view.id()} is canceled.")


async def _rebuild(view: View, form: dict[str, str]) -> Response:
    del form
    new_id = await builds.rebuild(view.parts, view.caller, view.id())
    notice = f"Build {new_id} is queued, of the same specification."
    return view.redirect(view.url("build", new_id), notice)


async def _restore(view: View, form: dict[str, str]) -> Response:
    del form
    new_id = await restoring.restore(view.parts, view.caller, view.id())
    notice = f"Build {new_id} is queued, of exactly the packages that build {view.id()} had."
    return view.redirect(view.url("build", new_id), notice)


async def _delete(view: View, form: dict[str, str]) -> Response:
    del form
    size = await builds.delete_build(view.parts, view.caller, view.id())
    notice = f"The files of build {view.id()} are being deleted ({size_text(size)})."
    return view.redirect(view.url("build", view.id()), notice)


async def _activate(view: View, form: dict[str, str]) -> Response:
    del form
    build = await overview.get_build(view.parts, view.caller, view.id())
    await environments.update_environment(
        view.parts,
        view.caller,
        build.environment.namespace.name,
        build.environment.name,
        build_id=build.id,
        description=None,
    )
    return view.redirect(view.url("build", build.id), f"{arn(build)} is build {build.id} now.")


async def _make(view: View, form: dict[str, str]) -> Response:
    artifact = _artifact(form)
    await artifacts.make_artifact(view.parts, view.caller, view.id(), artifact)
    return view.redirect(_artifacts_url(view), f"{NAMES[artifact]}: it is on its way.")


async def _remove(view: View, form: dict[str, str]) -> Response:
    artifact = _artifact(form)
    freed = await artifacts.remove_artifact(view.parts, view.caller, view.id(), artifact)
    what = f"it is gone ({size_text(freed)})" if freed else "it is stopped"
    return view.redirect(_artifacts_url(view), f"{NAMES[artifact]}: {what}.")


_ACTIONS: dict[str, Action] = {
    "cancel": _cancel,
    "rebuild": _rebuild,
    "restore": _restore,
    "delete": _delete,
    "activate": _activate,
    "make": _make,
    "remove": _remove,
}


def _artifact(form: dict[str, str]) -> ArtifactType:
    name = form.get("artifact", "")
    if name not in ArtifactType.__members__ or ArtifactType(name) not in NAMES:
        raise InvalidInput("choose an artifact")
    return ArtifactType(name)


def _artifacts_url(view: View) -> str:
    return view.url("build", view.id(), tab="artifacts")
