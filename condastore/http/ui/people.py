"""For who runs the daemon: the users, and who changed what."""

from datetime import datetime, timedelta

from starlette.responses import Response

from condastore.errors import InvalidInput
from condastore.http.ui.views import View
from condastore.service import audit, people
from condastore.service.audit import AuditFilter
from condastore.service.pages import PageRequest

PAGE_SIZE = 50
MAX_SEARCH = 200
RIGHTS_SHOWN = 5
ACTIONS = {
    "build.queue": "asked for build",
    "build.rebuild": "rebuilt, as build",
    "build.restore": "restored, as build",
    "build.cancel": "canceled build",
    "build.delete": "deleted build",
    "artifact.make": "asked for a form of build",
    "artifact.remove": "removed a form of build",
    "environment.activate": "made active build",
    "environment.describe": "changed a description",
    "environment.delete": "deleted an environment",
    "namespace.create": "made a namespace",
    "namespace.describe": "changed a namespace's metadata",
    "namespace.delete": "deleted a namespace",
    "share.grant": "gave a role",
    "share.withdraw": "took a role back",
    "share.replace": "changed what its users may do",
    "token.create": "made a token",
    "token.revoke": "revoked a token",
    "setting.change": "changed settings",
    "setting.reset": "reset settings",
    "login.succeed": "signed in",
    "login.fail": "failed to sign in",
}
FIELDS = ("actor", "action", "namespace", "environment", "since", "until")


async def list_users(view: View) -> Response:
    """Who has signed in, holds tokens or has been given a role; when seen, and what he may do."""
    search = view.query.get("search", "").strip()[:MAX_SEARCH]
    found = await people.list_users(
        view.parts, view.caller, page=view.page_number, size=PAGE_SIZE, search=search
    )
    return await view.page("people.html", found=found, search=search, shown=RIGHTS_SHOWN)


async def list_changes(view: View) -> Response:
    """The audit log; its filters are in the address."""
    form = {name: view.query.get(name, "").strip() for name in FIELDS}
    error, wanted = "", AuditFilter()
    try:
        wanted = _filter(form)
    except InvalidInput as problem:
        # A field for a day takes nothing else.
        error, form = str(problem), {**form, "since": "", "until": ""}
    request = PageRequest(view.page_number, PAGE_SIZE, [], descending=True)
    config = view.parts.config
    return await view.page(
        "audit.html",
        400 if error else 200,
        found=await audit.list_changes(view.parts, view.caller, request, wanted),
        form=form,
        error=error,
        is_filtered=any(form.values()),
        actions=ACTIONS,
        days=config.audit_days,
        entries=config.audit_entries,
    )


def _filter(form: dict[str, str]) -> AuditFilter:
    until = _day(form["until"])
    return AuditFilter(
        form["actor"],
        form["action"],
        form["namespace"],
        form["environment"],
        since=_day(form["since"]),
        # The day that is named counts as well.
        until=None if until is None else until + timedelta(days=1),
    )


def _day(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        found = datetime.max
    # There must be a day after it.
    if found.year == datetime.max.year:
        raise InvalidInput("write days as 2027-01-31")
    return found
