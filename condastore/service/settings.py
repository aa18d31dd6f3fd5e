"""Settings: the daemon's, a namespace's, an environment's (rest-api §10)."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete, select

from condastore.access import Caller
from condastore.audit import Action, record
from condastore.errors import InvalidInput
from condastore.indexer import SETTINGS as SETTINGS_OF_INDEX
from condastore.names import check_name, set_text, shorten
from condastore.service.parts import Parts
from condastore.setting_rows import load_settings, setting_prefix
from condastore.settings import GLOBAL_KEYS, Level, Settings, validate_update
from condastore.tables import KeyValueStore


async def get_settings(
    parts: Parts, caller: Caller, namespace: str | None = None, environment: str | None = None
) -> Settings:
    """Returns the settings in force at a place."""
    caller.require("setting::read", _arn(namespace, environment))
    async with parts.database.read() as session:
        return await load_settings(session, parts.defaults, namespace, environment)


async def setting_levels(
    parts: Parts, caller: Caller, namespace: str | None = None, environment: str | None = None
) -> dict[str, Level]:
    """Returns the level that each setting in force comes from; the configuration's are left out."""
    caller.require("setting::read", _arn(namespace, environment))
    places = {setting_prefix(): Level.GLOBAL}
    if namespace is not None:
        places[setting_prefix(namespace)] = Level.NAMESPACE
    if environment is not None:
        places[setting_prefix(namespace, environment)] = Level.ENVIRONMENT
    query = select(KeyValueStore.prefix, KeyValueStore.key).where(KeyValueStore.prefix.in_(places))
    async with parts.database.read() as session:
        rows = (await session.execute(query)).tuples().all()
    order = list(places)
    found: dict[str, Level] = {}
    for prefix, key in sorted(rows, key=lambda row: order.index(row[0])):
        if places[prefix] is Level.GLOBAL or key not in GLOBAL_KEYS:
            found[key] = places[prefix]
    return found


async def settings_in_force(parts: Parts) -> Settings:
    """Returns the daemon's settings, which can be changed while it runs."""
    async with parts.database.read() as session:
        return await load_settings(session, parts.defaults)


async def update_settings(
    parts: Parts,
    caller: Caller,
    namespace: str | None,
    environment: str | None,
    changes: Mapping[str, Any],
) -> None:
    """Changes settings at one level. Raises `InvalidInput`, and then changes nothing."""
    caller.require("setting::update", _arn(namespace, environment))
    level = Level.GLOBAL if namespace is None else Level.NAMESPACE
    checked = validate_update(Level.ENVIRONMENT if environment is not None else level, changes)
    prefix = _prefix(namespace, environment)
    parts.disk.require()
    async with parts.database.write() as session:
        query = select(KeyValueStore).where(KeyValueStore.prefix == prefix)
        rows = {row.key: row for row in await session.scalars(query)}
        for key, value in checked.items():
            if key in rows:
                rows[key].value = value
            else:
                session.add(KeyValueStore(prefix=prefix, key=key, value=value))
        if checked:
            # Values may be long, and those of channels are nobody else's business.
            details = {"keys": sorted(checked)}
            record(session, caller, Action.SETTING_CHANGE, namespace, environment, details=details)
    if level is Level.GLOBAL and checked.keys() & SETTINGS_OF_INDEX:
        parts.indexer.look()


async def reset_settings(
    parts: Parts,
    caller: Caller,
    namespace: str | None,
    environment: str | None,
    keys: Collection[str],
) -> None:
    """Lets settings be as the level above has them, the configuration at last.

    Raises `InvalidInput` for a name that is none of a setting.
    """
    caller.require("setting::update", _arn(namespace, environment))
    unknown = set(keys) - parts.defaults.as_dict().keys()
    if unknown or not keys:
        raise InvalidInput(f"Invalid setting keys {set_text(unknown)}")
    stored = KeyValueStore.prefix == _prefix(namespace, environment)
    async with parts.database.write() as session:
        await session.execute(delete(KeyValueStore).where(stored, KeyValueStore.key.in_(keys)))
        details = {"keys": sorted(keys)}
        record(session, caller, Action.SETTING_RESET, namespace, environment, details=details)
    if namespace is None and SETTINGS_OF_INDEX.intersection(keys):
        parts.indexer.look()


def _prefix(namespace: str | None, environment: str | None) -> str:
    """Returns where to write settings. Raises `InvalidInput` for what can't be a name, and for two
    that are too long together: PostgreSQL takes no more, whether they are there or not."""
    prefix = setting_prefix(
        None if namespace is None else check_name(namespace),
        None if environment is None else check_name(environment),
    )
    longest = KeyValueStore.prefix.type.length
    if longest is not None and len(prefix) > longest:
        raise InvalidInput(f"these names are too long together: {shorten(prefix)}")
    return prefix


def _arn(namespace: str | None, environment: str | None) -> str:
    return "/".join(name for name in (namespace, environment) if name is not None)
