"""The jobs that have to do with images; each imports what it needs, since most need little."""

from collections.abc import Callable
from typing import Any

from condastore.engine.events import Events


def role(name: str) -> Callable[[Any, Events], None]:
    """What does jobs of this kind."""
    if name == "base":
        from condastore.engine.image.base import find_base

        return find_base
    if name == "inventory":
        from condastore.engine.image.inventory import take_inventory

        return take_inventory
    from condastore.engine.image.making import make_image

    return make_image
