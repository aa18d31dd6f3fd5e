"""How a credential of a job opens the URLs below its own."""

import base64
from collections.abc import Sequence
from urllib.parse import urlsplit

from condastore.engine.jobs import Credential


def base(url: str) -> str:
    """The URL without a slash at its end."""
    return url.rstrip("/")


def with_token(credential: Credential) -> str:
    """The credential's URL with its conda token in the path."""
    parts = urlsplit(base(credential["url"]))
    return parts._replace(path=f"/t/{credential['token']}{parts.path}").geturl()


def authorization(credential: Credential) -> str | None:
    """The header that logs in; none for a conda token."""
    if "bearer" in credential:
        return f"Bearer {credential['bearer']}"
    if "username" in credential:
        pair = f"{credential['username']}:{credential.get('password', '')}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return None


def opened(url: str, credentials: Sequence[Credential]) -> tuple[str, str | None]:
    """The URL to ask for, and the header to send: by the credential with the longest URL above."""
    above = [one for one in credentials if f"{url}/".startswith(f"{base(one['url'])}/")]
    if not above:
        return url, None
    credential = max(above, key=lambda one: len(base(one["url"])))
    if credential.get("token"):
        return with_token(credential) + url.removeprefix(base(credential["url"])), None
    return url, authorization(credential)
