"""Namespaces: what they hold and who can do what in them; and oneself: rights and tokens."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from condastore.access import PERMISSIONS, Caller
from condastore.errors import CondaStoreError, InvalidInput, Unauthorized
from condastore.http.ui import views
from condastore.http.ui.phrases import size_text
from condastore.http.ui.views import Action, View
from condastore.service import namespaces, sharing, tokens, usage
from condastore.service.pages import Page, PageRequest
from condastore.service.tokens import TokenRecord, TooMuch

PAGE_SIZE = 100
LIFETIMES = {"1": "a day", "7": "a week", "30": "30 days", "365": "a year"}
AS_LONG, USUAL = "as-long", "7"
ROLES = {
    "viewer": "see everything",
    "developer": "also build",
    "admin": "also delete, and decide who may do what",
}


async def list_namespaces(view: View) -> Response:
    """The namespaces that the caller may see, with what they hold."""
    return await _namespaces(view)


async def _namespaces(view: View, status: int = 200, error: str = "", name: str = "") -> Response:
    request = PageRequest(view.page_number, PAGE_SIZE, ["name"], descending=False)
    found = await namespaces.list_namespaces(view.parts, view.caller, request)
    used = {row.namespace: row for row in await usage.usage(view.parts, view.caller)}
    return await view.page(
        "namespaces.html",
        status,
        found=found,
        used=used,
        error=error,
        name=name,
        may_create=view.caller.allows_somewhere("namespace::create"),
    )


async def create_namespace(view: View) -> Response:
    """Makes a namespace."""
    name = (await view.form()).get("name", "").strip()
    try:
        await namespaces.create_namespace(view.parts, view.caller, name)
    except CondaStoreError as error:
        if isinstance(error, Unauthorized) and not view.caller.authenticated:
            raise
        text = "You may not make a namespace with this name." if error.status == 403 else str(error)
        return await _namespaces(view, error.status, text, name)
    return view.redirect(view.url("namespace", name), f"The namespace {name} is made.")


async def show(view: View) -> Response:
    """One namespace: what it holds, and who can do what in it and why."""
    return await _show(view)


async def _show(view: View, status: int = 200, error: str = "") -> Response:
    name = view.name("namespace")
    await namespaces.get_namespace(view.parts, view.caller, name)
    used = {row.namespace: row for row in await usage.usage(view.parts, view.caller)}
    allows = view.caller.allows
    may_see = allows("namespace-role-mapping::read", name)
    return await view.page(
        "namespace.html",
        status,
        namespace=name,
        used=used.get(name),
        access=await sharing.access(view.parts, view.caller, name) if may_see else None,
        may_grant=allows("namespace-role-mapping::create", name),
        may_withdraw=allows("namespace-role-mapping::delete", name),
        roles=ROLES,
        error=error,
        own=_own(view, name),
    )


def _own(view: View, name: str) -> list[tuple[str, bool]]:
    """Returns what the caller may do to an environment of a namespace without a name of its own."""
    return [
        (what, view.allows(permission, f"{name}/x" if permission.startswith(_INSIDE) else name))
        for permission, what in PERMISSIONS.items()
        if not permission.startswith("setting")
    ]


_INSIDE = ("environment:", "build:")


async def act(view: View) -> Response:
    """What a form on the page of a namespace asks for."""
    try:
        return await views.act(view, _ACTIONS)
    except CondaStoreError as error:
        if isinstance(error, Unauthorized) and not view.caller.authenticated:
            raise
        text = (
            "You may not give or take this: it is more than you have yourself, or the other "
            "namespace is not yours to change."
            if isinstance(error, Unauthorized)
            else str(error)
        )
        return await _show(view, error.status, text)


async def _grant(view: View, form: dict[str, str]) -> Response:
    name, other = view.name("namespace"), form.get("other", "").strip()
    role = form.get("role", "")
    await sharing.grant(view.parts, view.caller, name, other, role)
    return view.redirect(view.url("namespace", name), f"Users of {other} are {role} here now.")


async def _withdraw(view: View, form: dict[str, str]) -> Response:
    name, other = view.name("namespace"), form.get("other", "").strip()
    await sharing.withdraw(view.parts, view.caller, name, other)
    return view.redirect(view.url("namespace", name), f"Users of {other} have no role here now.")


async def _delete(view: View, form: dict[str, str]) -> Response:
    name = view.name("namespace")
    if form.get("confirm", "").strip() != name:
        raise InvalidInput(f"To delete it, type the name of the namespace: {name}")
    size = await namespaces.delete_namespace(view.parts, view.caller, name)
    return view.redirect(
        view.url("namespace"), f"{name} is being deleted: its builds take {size_text(size)}."
    )


_ACTIONS: dict[str, Action] = {
    "grant": _grant,
    "withdraw": _withdraw,
    "delete": _delete,
}


async def user(view: View) -> Response:
    """Who the caller is, what he may do where, and his tokens."""
    if not view.caller.authenticated:
        # As conda-store does (rest-api §6).
        target = f"{view.url_prefix}/login/?next={quote(view.here(), safe='')}"
        return RedirectResponse(target, 307)
    return await _user(view)


async def act_on_user(view: View) -> Response:
    """Makes a token, or ends one."""
    form = await view.form()
    view_page = view.url("user")
    if form.get("action") == "revoke":
        await tokens.revoke(view.parts, view.caller, _number(form.get("token_id", "")))
        return view.redirect(view_page, f"Token {form['token_id']} is worth nothing any more.")
    if not view.caller.authenticated:
        raise Unauthorized
    try:
        minted = await _mint(view, form)
    except CondaStoreError as error:
        text = str(error)
        if isinstance(error, TooMuch):
            text = "A token can't do more than you may do yourself: choose another place or role."
        return await _user(view, error.status, error=text, form=form)
    return await _user(view, minted=minted)


async def _mint(view: View, form: dict[str, str]) -> str:
    days = form.get("days", "")
    if days not in _lifetimes(view.caller):
        raise InvalidInput("choose how long the token is good")
    expiration = view.caller.expiration
    if days != AS_LONG:
        expiration = datetime.now(UTC).replace(microsecond=0) + timedelta(days=int(days))
    pattern = form.get("pattern", "").strip()
    bindings = {pattern: [form.get("role", "viewer")]} if pattern else None
    return await tokens.mint(
        view.parts,
        view.caller,
        primary_namespace=None,
        expiration=expiration,
        role_bindings=bindings,
    )


def _lifetimes(caller: Caller) -> dict[str, str]:
    """Returns how long a token may be good: none outlives the sign-in that it is made in."""
    if caller.expiration is None:
        return LIFETIMES
    left = caller.expiration - datetime.now(UTC)
    shorter = {days: label for days, label in LIFETIMES.items() if timedelta(days=int(days)) < left}
    return {**shorter, AS_LONG: "as long as this sign-in"}


async def _user(
    view: View,
    status: int = 200,
    *,
    error: str = "",
    minted: str | None = None,
    form: dict[str, str] | None = None,
) -> Response:
    request = PageRequest(view.page_number, PAGE_SIZE, ["id"], descending=True)
    found: Page[TokenRecord] | None = None
    if view.caller.user is not None or view.allows("setting::update", ""):
        found = await tokens.list_tokens(view.parts, view.caller, request)
    lifetimes = _lifetimes(view.caller)
    days = AS_LONG if AS_LONG in lifetimes else USUAL
    shown: dict[str, Any] = {"pattern": "", "role": "viewer", "days": days, **(form or {})}
    return await view.page(
        "user.html",
        status,
        keep=minted is None,
        tokens=found,
        minted=minted,
        error=error,
        form=shown,
        lifetimes=lifetimes,
        roles=ROLES,
        prefix=view.url_prefix,
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InvalidInput("choose a token")
    return int(text[:18])
