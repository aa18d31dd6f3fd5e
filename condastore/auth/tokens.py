"""The secret of an installation, and the admin token that is made from it."""

import base64
import hashlib
import hmac
import secrets
from pathlib import Path

from condastore.access import ADMINISTRATOR, ANONYMOUS, Caller
from condastore.errors import ConfigurationError
from condastore.files import write_file

SECRET_BYTES = 32


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


class AdminToken:
    """The token that allows everything; the same as long as the secret is."""

    def __init__(self, secret: str) -> None:
        digest = hmac.digest(secret.encode(), b"condastore admin token 1", hashlib.sha256)
        self.text = base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def caller(self, authorization: str | None) -> Caller:
        """Returns who sent an Authorization header: `Bearer TOKEN`, or `Basic` with the token as
        password (RFC 6750, RFC 7617). Whatever is wrong with it means nobody in particular.
        """
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() == "basic":
            value = _password(value)
        elif scheme.lower() != "bearer":
            return ANONYMOUS
        matches = hmac.compare_digest(value.strip().encode(), self.text.encode())
        return ADMINISTRATOR if matches else ANONYMOUS


def _password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
