"""What a finished prefix is packed into: a conda-pack archive, or an installer."""

from condastore.engine.pack.archive import archive
from condastore.engine.pack.installer import installer

__all__ = ["archive", "installer"]
