"""What a finished prefix is packed into: a conda-pack archive, or an installer."""

from condastore.engine.pack.archive import archive

__all__ = ["archive"]
