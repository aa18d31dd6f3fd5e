"""For who runs the daemon: what it does now, its disk, its health, and its settings."""

import asyncio
import shutil
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from condastore.configuration import CondaStore
from condastore.errors import InvalidInput
from condastore.http.ui.plots import plot
from condastore.http.ui.views import View
from condastore.service import chronicle, settings, usage, work
from condastore.service.overview import Waiting
from condastore.service.readings import Cached
from condastore.settings import GLOBAL_KEYS, Level

BARS = 25


@dataclass(frozen=True)
class SettingLine:
    """A setting as the page shows it."""

    key: str
    text: str
    is_list: bool
    level: Level | None
    """Where its value comes from; None for the configuration."""
    help_text: str
    is_global: bool
    """Whether only the whole daemon has it."""
    may_change: bool


async def status(view: View) -> Response:
    """What waits and runs, what takes the space, and whether everything works."""
    queue = await work.queue(view.parts, view.caller)
    used = sorted(
        await usage.usage(view.parts, view.caller), key=lambda row: row.bytes, reverse=True
    )
    disk = await asyncio.to_thread(shutil.disk_usage, view.parts.store.root)
    health: Cached[dict[str, str | None]] = view.request.app.state.health
    return await view.page(
        "status.html",
        queue=queue,
        lanes=view.parts.pool.use,
        waiting_for=Waiting,
        used=used[:BARS],
        others=used[BARS:],
        disk=disk,
        health=await health.get(),
        channels=view.parts.indexer.channels,
        history=plot(await chronicle.disk_history(view.parts, view.caller)),
    )


async def show_settings(view: View) -> Response:
    """The settings in force at a place, where each comes from, and a form to change it."""
    return await _show(view)


async def _show(
    view: View, status: int = 200, *, error: str = "", changed: tuple[str, str] | None = None
) -> Response:
    namespace, environment = _place(view)
    found = await settings.get_settings(view.parts, view.caller, namespace, environment)
    levels = await settings.setting_levels(view.parts, view.caller, namespace, environment)
    arn = "/".join(name for name in (namespace, environment) if name is not None)
    may_update = view.allows("setting::update", arn)
    traits = CondaStore.class_traits()
    lines = []
    for key, value in found.as_dict().items():
        trait = traits.get(key)
        is_global = key in GLOBAL_KEYS
        may_change = may_update and (namespace is None or not is_global)
        text = _text(value)
        if changed is not None and changed[0] == key:
            text = changed[1]
        help_text = " ".join((trait.help if trait is not None else "").split())
        lines.append(
            SettingLine(
                key,
                text,
                isinstance(value, list),
                levels.get(key),
                help_text,
                is_global,
                may_change,
            )
        )
    if namespace is not None:
        # What can be changed here comes first.
        lines.sort(key=lambda line: line.is_global)
    return await view.page(
        "settings.html",
        status,
        lines=lines,
        namespace=namespace,
        environment=environment,
        error=error,
        wrong_key=changed[0] if changed else "",
    )


async def change_setting(view: View) -> Response:
    """Changes one setting at this place, or lets it be as the level above has it."""
    form = await view.form()
    namespace, environment = _place(view)
    names = [name for name in (namespace, environment) if name is not None]
    key, text = form.get("key", ""), form.get("value", "")
    if form.get("action") == "reset":
        await settings.reset_settings(view.parts, view.caller, namespace, environment, [key])
        return view.redirect(view.url("setting", *names), f"{key} is as the level above has it.")
    is_list = form.get("is_list") == "yes"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    value: Any = lines if is_list else text.strip() or None
    try:
        await settings.update_settings(
            view.parts, view.caller, namespace, environment, changes={key: value}
        )
    except InvalidInput as error:
        return await _show(view, 400, error=str(error), changed=(key, text))
    return view.redirect(view.url("setting", *names), f"{key} is changed.")


def _place(view: View) -> tuple[str | None, str | None]:
    names = view.request.path_params
    return names.get("namespace"), names.get("environment")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(map(str, value))
    return "" if value is None else str(value)
