"""The engines that are programs of their own: conda, mamba, micromamba."""

from condastore.engine.external.conversation import link, solve

__all__ = ["link", "solve"]
