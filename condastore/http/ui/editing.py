"""New environments and new builds of those that there are: one page with a text and a picker."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from condastore import environment_yaml
from condastore.errors import (
    CondaStoreError,
    InvalidInput,
    InvalidSpecification,
    Unauthorized,
)
from condastore.http.form_data import OVERHEAD
from condastore.http.operations import unless_gone
from condastore.http.parameters import SMALL_BODY_BYTES
from condastore.http.problems import json_response
from condastore.http.ui.conflicts import explain
from condastore.http.ui.differences import Difference, asked_for, compare
from condastore.http.ui.environment import shown_build, text_of_build
from condastore.http.ui.specification_text import Problem, line_of, problems_of
from condastore.http.ui.views import View
from condastore.names import shorten
from condastore.service import namespaces, overview, solves, specifications
from condastore.service.pages import PageRequest
from condastore.service.settings import settings_in_force
from condastore.service.solves import Cost, SolveRequest
from condastore.service.specifications import Submission
from condastore.specification import CondaSpecification
from condastore.tables import Build

NAMESPACES_SHOWN = 500
_NAME = re.compile(r"^name:[ \t]*[\"']?([^\"'\s#]+)", re.MULTILINE)


@dataclass(frozen=True)
class Draft:
    """What somebody is writing, as the form holds it."""

    text: str
    namespace: str
    name: str = ""
    description: str = ""
    is_lockfile: bool = False
    base_id: int | None = None
    """The build that it began with."""


@dataclass(frozen=True)
class Solved:
    """A package that would be installed."""

    name: str
    version: str
    build: str


@dataclass(frozen=True)
class Preview:
    """What building would change."""

    difference: Difference
    base_id: int | None
    count: int
    cost: Cost


async def new(view: View) -> Response:
    """The page for a new environment: empty, or a copy of a build."""
    namespace = view.query.get("namespace") or view.caller.primary_namespace
    clone = view.query.get("clone", "")
    if clone.isascii() and clone.isdigit():
        build = await overview.get_build(view.parts, view.caller, int(clone[:18]))
        text = _renamed(await text_of_build(build), f"{build.environment.name}-copy")
        return await _page(view, Draft(text, namespace, base_id=build.id))
    if not view.caller.allows_somewhere("environment:create"):
        raise Unauthorized
    settings = await settings_in_force(view.parts)
    channels = "".join(f"  - {name}\n" for name in settings.conda_default_channels)
    text = f"name: my-environment\nchannels:\n{channels}dependencies:\n  - python\n"
    return await _page(view, Draft(text, namespace))


async def edit(view: View) -> Response:
    """The page for another build of an environment."""
    namespace, name = view.name("namespace"), view.name("environment")
    view.caller.require("environment:create", f"{namespace}/{name}")
    build = await _build_of(view, namespace, name)
    return await _page(view, Draft(await text_of_build(build), namespace, name, base_id=build.id))


async def submit_new(view: View) -> Response:
    """Previews, checks or builds what was written."""
    return await _submit(view, await _draft(view))


async def submit_edit(view: View) -> Response:
    """The same for an environment that there is: its name stays."""
    return await _submit(view, await _draft(view, view.name("namespace")), view.name("environment"))


async def _submit(view: View, draft: Draft, name: str | None = None) -> Response:
    form = await view.form()
    action = form.get("action", "build")
    try:
        if action == "check":
            return await _check(view, draft, name)
        if action == "preview":
            _keep_name(draft, name)
            preview = await _preview(view, draft)
            return await _page(view, draft, preview=preview, name=name)
        return await _build(view, draft, name)
    except CondaStoreError as error:
        is_lost = isinstance(error, Unauthorized) and not view.caller.authenticated
        status = 401 if is_lost else error.status
        return await _page(view, draft, status, problems=_problems(view, draft, error), name=name)


def _problems(view: View, draft: Draft, error: CondaStoreError) -> list[Problem]:
    if isinstance(error, _Unsolvable):
        return [error.problem]
    if isinstance(error, InvalidSpecification):
        return problems_of(str(error), draft.text)
    if isinstance(error, Unauthorized):
        if view.caller.authenticated:
            return [Problem(None, f"You may not build in the namespace {draft.namespace}.")]
        return [
            Problem(None, "You are not signed in any more. Sign in in another tab, then again.")
        ]
    return [Problem(None, line) for line in str(error).split("\n") if line]


def _keep_name(draft: Draft, name: str | None) -> None:
    """Raises `InvalidSpecification` if a text would build another environment than its page's."""
    written = None if name is None or draft.is_lockfile else _NAME.search(draft.text)
    if written is not None and written[1] != name:
        line = draft.text.count("\n", 0, written.start()) + 1
        raise InvalidSpecification(
            f"line {line}, column 1: this page edits {name}; for another name, make a new "
            "environment"
        )


async def _build(view: View, draft: Draft, name: str | None) -> Response:
    _keep_name(draft, name)
    submission = Submission(
        text=draft.text,
        namespace=draft.namespace,
        is_lockfile=draft.is_lockfile,
        environment_name=name or draft.name,
        environment_description=draft.description,
    )
    build_id = await specifications.submit(view.parts, view.caller, submission)
    return view.redirect(view.url("build", build_id or 0), f"Build {build_id} is queued.")


async def _check(view: View, draft: Draft, name: str | None) -> Response:
    """Says what is wrong with a text, for whoever may build somewhere."""
    if not view.caller.allows_somewhere("environment:create"):
        raise Unauthorized
    problems: Sequence[Problem] = []
    try:
        _keep_name(draft, name)
        await _parsed(view, draft)
    except InvalidSpecification as error:
        problems = await asyncio.to_thread(problems_of, str(error), draft.text)
    found = [{"line": problem.line, "message": problem.message} for problem in problems]
    return json_response({"problems": found})


async def _parsed(view: View, draft: Draft) -> CondaSpecification:
    limits = environment_yaml.Limits(size_bytes=view.parts.config.max_specification_bytes)
    return await asyncio.to_thread(environment_yaml.parse, draft.text, limits)


async def _preview(view: View, draft: Draft) -> Preview:
    if draft.is_lockfile:
        raise InvalidInput("a lockfile says itself what is installed; there is nothing to solve")
    specification = await _parsed(view, draft)
    wanted = SolveRequest(
        specification.channels, specification.match_specs, specification.requirements
    )
    try:
        rows = await unless_gone(view.request, solves.solve(view.parts, view.caller, wanted))
    except InvalidInput as error:
        raise await asyncio.to_thread(_unsolvable, draft.text, specification, error) from None
    new = [Solved(row.package.name, row.package.version, row.build) for row in rows]
    old: Sequence[Any] = []
    asked_old: frozenset[str] = frozenset()
    if draft.base_id is not None:
        base = await overview.get_build(view.parts, view.caller, draft.base_id)
        old = (await overview.packages_of(view.parts, [base.id]))[base.id]
        asked_old = asked_for(base.specification.spec)
    return Preview(
        compare(old, new, asked_old, asked_for(specification.as_dict())),
        draft.base_id if old else None,
        len(new),
        await solves.cost(view.parts, rows),
    )


class _Unsolvable(InvalidInput):
    """Nothing fits what a text asks for; says why, and in which line it begins."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def _unsolvable(text: str, specification: CondaSpecification, error: InvalidInput) -> InvalidInput:
    """Returns what a solver's message says of a text; the error itself if it says nothing of it."""
    asked = specification.match_specs
    found = explain(str(error), asked)
    if found is None:
        return error
    names = {*found.names}
    place = next((spec for spec in asked if asked_for({"dependencies": [spec]}) & names), None)
    line = None
    if place is not None:
        line = line_of(text, ("dependencies", specification.dependencies.index(place)))
    details = str(error) if "\n" in str(error) else ""
    return _Unsolvable(Problem(line, found.sentence, details))


async def _page(
    view: View,
    draft: Draft,
    status: int = 200,
    *,
    problems: Sequence[Problem] = (),
    preview: Preview | None = None,
    name: str | None = None,
) -> Response:
    environment = name or view.request.path_params.get("environment")
    names = [] if environment else await _namespaces(view)
    if draft.namespace not in names:
        names.insert(0, draft.namespace)
    return await view.page(
        "editor.html",
        status,
        draft=draft,
        problems=problems,
        preview=preview,
        environment=environment,
        namespaces=names,
    )


async def _namespaces(view: View) -> list[str]:
    """Returns the namespaces in which the caller may make an environment of some name."""
    request = PageRequest(1, NAMESPACES_SHOWN, ["name"], descending=False)
    found = await namespaces.list_namespaces(view.parts, view.caller, request)
    names = {row.name for row in found.rows} | {view.caller.primary_namespace}
    return sorted(name for name in names if view.allows("environment:create", f"{name}/x"))


async def _draft(view: View, namespace: str | None = None) -> Draft:
    """Returns what the form holds. Raises `TooLarge`."""
    config = view.parts.config
    longest = max(config.max_specification_bytes, config.max_lockfile_bytes)
    form = await view.form(longest * OVERHEAD + SMALL_BODY_BYTES)
    is_lockfile = form.get("kind") == "lockfile"
    # Browsers send line ends as a network protocol has them.
    text = form.get("specification", "").replace("\r\n", "\n")
    name = form.get("name", "").strip()
    if name and not is_lockfile and not _NAME.search(text):
        text = f"name: {name}\n{text}"
    base = form.get("base", "")
    return Draft(
        text,
        namespace or form.get("namespace", "").strip(),
        name,
        form.get("description", ""),
        is_lockfile,
        int(base[:18]) if base.isascii() and base.isdigit() else None,
    )


async def _build_of(view: View, namespace: str, name: str) -> Build:
    """Returns the build that the query names, of this environment; else its active one."""
    environment = await overview.get_environment(view.parts, view.caller, namespace, name)
    wanted = view.query.get("build", "")
    if wanted.isascii() and wanted.isdigit():
        build = await overview.get_build(view.parts, view.caller, int(wanted[:18]))
        if build.environment_id != environment.id:
            raise InvalidInput(f"build {shorten(wanted)} is not one of {namespace}/{name}")
        return build
    return await shown_build(view, environment)


def _renamed(text: str, name: str) -> str:
    return _NAME.sub(lambda _: f"name: {name}", text, count=1)
