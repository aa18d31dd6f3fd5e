"""Tokens for pulling images: what somebody may pull, for some minutes (the token protocol).

They are signed with a secret of their own and are for another audience than the tokens of the API,
so neither is taken for the other. Nothing records them: what they were made from may be revoked
meanwhile, which ends them when they end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt

from condastore.auth.tokens import MAX_TOKEN_BYTES

AUDIENCE = "condastore registry"
_ALGORITHM = "HS256"

Scopes = Mapping[str, frozenset[str]]
"""Actions by the name of a repository."""


@dataclass(frozen=True)
class Grant:
    """Who may do what with which repositories."""

    name: str
    """Who asked for the token."""
    scopes: Scopes


class RegistryTokens:
    """Makes tokens and reads them."""

    def __init__(self, secret: str, lifetime_s: int) -> None:
        self._secret = secret
        self.lifetime_s = lifetime_s

    def sign(self, grant: Grant, issued: datetime) -> str:
        """Returns a token; `issued` has an offset."""
        seconds = int(issued.timestamp())
        payload = {
            "aud": AUDIENCE,
            "iat": seconds,
            "exp": seconds + self.lifetime_s,
            "sub": grant.name,
            "access": {name: sorted(actions) for name, actions in grant.scopes.items()},
        }
        return jwt.encode(payload, self._secret, _ALGORITHM)

    def read(self, token: str) -> Grant | None:
        """Returns what a token grants; None if it is not ours, or has ended."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            payload: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                [_ALGORITHM],
                audience=AUDIENCE,
                options={"require": ["exp", "aud", "sub"], "verify_iat": False},
            )
        except (jwt.InvalidTokenError, ValueError):
            return None
        scopes = {name: frozenset(actions) for name, actions in payload["access"].items()}
        return Grant(payload["sub"], scopes)


def now() -> datetime:
    """Returns the time with an offset, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)
