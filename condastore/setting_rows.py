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


async def load_settings(
    session: AsyncSession, defaults: Settings, namespace: str, environment: str
) -> Settings:
    """Returns the settings in force for an environment."""
    prefixes = ["setting", f"setting/{namespace}", f"setting/{namespace}/{environment}"]
    layers: dict[str, dict[str, Any]] = {prefix: {} for prefix in prefixes}
    query = select(KeyValueStore).where(KeyValueStore.prefix.in_(prefixes))
    for row in await session.scalars(query):
        layers[row.prefix][row.key] = row.value
    return merge(defaults, *(layers[prefix] for prefix in prefixes))
