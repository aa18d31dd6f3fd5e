"""The check that there is room for another build (rest-api §13)."""

from condastore.errors import InvalidInput
from condastore.service.parts import Parts


def check_space(parts: Parts, action: str) -> None:
    """Raises `InvalidInput` if the store's file system has less free space than the threshold."""
    if parts.store.free_bytes() < parts.defaults.storage_threshold:
        raise InvalidInput(
            "`CondaStore.storage_threshold` reached. "
            f"Action {action} prevented due to insufficient storage space"
        )
