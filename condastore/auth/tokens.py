"""The secret of an installation, the admin token, and the tokens of users (rest-api §11)."""

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import jwt

from condastore.access import AccessPolicy, Bindings
from condastore.errors import ConfigurationError, InvalidInput
from condastore.files import write_file
from condastore.names import check_name

SECRET_BYTES = 32
# Some hundred bindings; what is longer is no token of ours.
MAX_TOKEN_BYTES = 16 * 1024


def keep_secret(path: Path) -> str:
    """Returns the secret in a file that only its owner may read; makes it the first time.

    Raises `ConfigurationError` if others may read the file, or there is nothing in it.
    """
    if not path.exists():
        write_file(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n", mode=0o600)
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{path} can be read by others, so it is no secret: run `chmod 600` on it, or remove "
            "it to get a new one, which makes every token invalid"
        )
    secret = path.read_text().strip()
    if not secret:
        raise ConfigurationError(f"{path} is empty, so it is no secret: remove it to get a new one")
    return secret


def derived(secret: str, purpose: str) -> str:
    """Returns a secret made from the installation's own, for one purpose alone."""
    digest = hmac.digest(secret.encode(), f"condastore {purpose} 1".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


class AdminToken:
    """The token that allows everything; the same as long as the secret is."""

    def __init__(self, secret: str) -> None:
        self.text = derived(secret, "admin token")

    def is_text(self, text: str) -> bool:
        """Whether a text is this token."""
        return hmac.compare_digest(text.encode(), self.text.encode())


@dataclass(frozen=True)
class Claims:
    """What a token says."""

    primary_namespace: str
    role_bindings: Bindings
    expires: datetime
    """With an offset."""
    id: str | None = None
    """Under which it is recorded, and can be revoked; None for one that others made."""
    user: str | None = None
    """Who signed in; None for a minted token, to which nothing is added but what it says."""
    is_anonymous: bool = False
    """Minted by nobody in particular, so worth no more than nothing."""


class TokenSigner:
    """Makes tokens and reads them: JSON Web Tokens (RFC 7519) with one fixed algorithm."""

    def __init__(self, secret: str, algorithm: str, policy: AccessPolicy) -> None:
        self._secret = secret
        self._algorithm = algorithm
        self.policy = policy

    def sign(self, claims: Claims) -> str:
        """Returns a token."""
        payload = {
            "exp": int(claims.expires.timestamp()),
            "primary_namespace": claims.primary_namespace,
            "role_bindings": {key: list(roles) for key, roles in claims.role_bindings.items()},
            "jti": claims.id,
            "sub": claims.user,
            "anonymous": claims.is_anonymous or None,
        }
        present = {key: value for key, value in payload.items() if value is not None}
        return jwt.encode(present, self._secret, self._algorithm)

    def read(self, token: str) -> Claims | None:
        """Returns what a token says; None if it is not ours, has ended, or says nonsense."""
        if len(token) > MAX_TOKEN_BYTES:
            return None
        try:
            payload = jwt.decode(
                token, self._secret, [self._algorithm], options={"require": ["exp"]}
            )
            return Claims(
                primary_namespace=check_name(payload.get("primary_namespace", "default")),
                role_bindings=self.policy.checked(payload.get("role_bindings", {})),
                expires=datetime.fromtimestamp(payload["exp"], UTC),
                id=payload.get("jti"),
                user=payload.get("sub"),
                is_anonymous=bool(payload.get("anonymous")),
            )
        except (jwt.InvalidTokenError, InvalidInput, TypeError, AttributeError):
            return None
        except (ValueError, OverflowError, OSError):
            # A time that no calendar has.
            return None
