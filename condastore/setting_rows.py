"""The stored layers of the settings (rest-api §10)."""

from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from condastore.configuration import CondaStore
from condastore.settings import Settings, merge
from condastore.tables import KeyValueStore


def configured(config: CondaStore) -> Settings:
    """Returns the settings that the configuration starts with."""
    names = msgspec.structs.fields(Settings)
    return msgspec.convert({field.name: getattr(config, field.name) for field in names}, Settings)


def setting_prefix(namespace: str | None = None, environment: str | None = None) -> str:
    """Returns under which prefix a level's settings are stored."""
    return "/".join(["setting", *(name for name in (namespace, environment) if name is not None)])


async def load_settings(
    session: AsyncSession,
    defaults: Settings,
    namespace: str | None = None,
    environment: str | None = None,
) -> Settings:
    """Returns the settings in force for the daemon, a namespace, or an environment."""
    places = [(None, None), (namespace, None), (namespace, environment)]
    prefixes = list(dict.fromkeys(setting_prefix(*place) for place in places))
    layers: dict[str, dict[str, Any]] = {prefix: {} for prefix in prefixes}
    query = select(KeyValueStore).where(KeyValueStore.prefix.in_(prefixes))
    for row in await session.scalars(query):
        layers[row.prefix][row.key] = row.value
    return merge(defaults, *layers.values())
