"""How callers prove who they are."""

from condastore.auth.tokens import AdminToken, keep_secret

__all__ = ["AdminToken", "keep_secret"]
