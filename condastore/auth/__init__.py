"""How callers prove who they are."""

from importlib import import_module
from typing import Any

from condastore.auth.authentication import (
    Authentication,
    DummyAuthentication,
    Identity,
    PasswordAuthentication,
    TokenAuthentication,
)
from condastore.auth.identities import Identities
from condastore.auth.tokens import AdminToken, TokenSigner, derived, keep_secret

__all__ = [
    "AdminToken",
    "Authentication",
    "DummyAuthentication",
    "Identities",
    "Identity",
    "PasswordAuthentication",
    "TokenAuthentication",
    "TokenSigner",
    "derived",
    "keep_secret",
]

# What these import is needed where they are configured, and nowhere else.
_LATER = {
    "GenericOAuthAuthentication": "oauth",
    "GithubOAuthAuthentication": "oauth",
    "JupyterHubOAuthAuthentication": "oauth",
    "PAMAuthentication": "pam",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(name)
    return getattr(import_module(f"condastore.auth.{_LATER[name]}"), name)
