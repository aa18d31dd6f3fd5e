"""`/api/v1/setting/` (rest-api §4.7, §10)."""

from typing import Any

import msgspec

from condastore.http import shapes
from condastore.http.operations import Call, Plain
from condastore.http.parameters import NoBody, NoQuery
from condastore.service import settings


class ResetQuery(msgspec.Struct, kw_only=True):
    """Which settings are to be as the level above has them."""

    key: list[str] = []


async def get(call: Plain) -> shapes.Data[dict[str, Any]]:
    """The settings in force: the daemon's, a namespace's or an environment's."""
    found = await settings.get_settings(call.parts, call.caller, *_place(call))
    return shapes.data(found.as_dict())


async def update(call: Call[NoQuery, dict[str, Any]]) -> shapes.Data[None]:
    """Changes settings at one level; the levels below follow, unless they say otherwise."""
    await settings.update_settings(call.parts, call.caller, *_place(call), changes=call.body)
    return shapes.data(None, f"global setting keys {list(call.body)} updated")


async def reset(call: Call[ResetQuery, NoBody]) -> shapes.Acknowledgement:
    """Lets settings be as the level above has them, the configuration at last."""
    keys = call.query.key
    await settings.reset_settings(call.parts, call.caller, *_place(call), keys=keys)
    return shapes.acknowledge(f"setting keys {keys} reset")


def _place(call: Call[Any, Any]) -> tuple[str | None, str | None]:
    """Returns the namespace and environment in the path, as far as they are there."""
    names = call.request.path_params
    return names.get("namespace"), names.get("environment")
