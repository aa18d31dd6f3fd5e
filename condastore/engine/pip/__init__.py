"""The `pip:` section of an environment, by uv."""

from condastore.engine.pip.installation import resolve_and_install

__all__ = ["resolve_and_install"]
