"""`/api/v1/setting/` (rest-api §4.7, §10)."""

from typing import Any

from condastore.http import shapes
from condastore.http.operations import Call, Plain
from condastore.http.parameters import NoQuery
from condastore.service import settings


async def get(call: Plain) -> shapes.Data[dict[str, Any]]:
    """The settings in force: the daemon's, a namespace's or an environment's."""
    found = await settings.get_settings(call.parts, call.caller, *_place(call))
    return shapes.data(found.as_dict())


async def update(call: Call[NoQuery, dict[str, Any]]) -> shapes.Data[None]:
    """Changes settings at one level; the levels below follow, unless they say otherwise."""
    await settings.update_settings(call.parts, call.caller, *_place(call), changes=call.body)
    return shapes.data(None, f"global setting keys {list(call.body)} updated")


def _place(call: Call[Any, Any]) -> tuple[str | None, str | None]:
    """Returns the namespace and environment in the path, as far as they are there."""
    names = call.request.path_params
    return names.get("namespace"), names.get("environment")
