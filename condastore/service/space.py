"""Whether something may be begun: there is room, and the operator lets it (rest-api §13)."""

import asyncio

from condastore.errors import InvalidInput
from condastore.service.parts import Parts
from condastore.service.settings import settings_in_force


async def check_action(parts: Parts, namespace: str, action: str) -> None:
    """Raises `InvalidInput` if the store's file system has less free space than the threshold, or
    the operator's hook refuses, and `DiskFull` if there is no room for anything.
    """
    await parts.hooks.action(namespace, action)
    settings = await settings_in_force(parts)
    if await asyncio.to_thread(parts.store.free_bytes) < settings.storage_threshold:
        raise InvalidInput(
            "`CondaStore.storage_threshold` reached. "
            f"Action {action} prevented due to insufficient storage space"
        )
    parts.disk.require()
