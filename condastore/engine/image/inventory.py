"""The role `inventory`."""

from condastore.engine.events import Events
from condastore.engine.jobs import InventoryJob


def take_inventory(job: InventoryJob, events: Events) -> None:
    """Writes the bills of materials of an environment."""
    events.result()
