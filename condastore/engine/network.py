"""Makes clients that log in where a job says so, and reads the errors that they raise."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from urllib.parse import urlsplit

from rattler.networking import Client
from rattler.networking.middleware import (
    AddHeadersMiddleware,
    MirrorMiddleware,
    RetryMiddleware,
)

from condastore.engine.credentials import authorization, base, with_token
from condastore.engine.events import EngineError
from condastore.engine.failures import explain
from condastore.engine.jobs import Credential
from condastore.engine.redaction import without_credentials

USER_AGENT = "condastore"
_CERTIFICATE = "invalid peer certificate"
_WRONG_TIME = re.compile("certificate (expired|not valid yet)")
_STATUS = re.compile(r"HTTP status (?:client|server) error \((\d{3})[^)]*\)")


def client(credentials: Sequence[Credential], retries: int) -> Client:
    """A client that sends each credential to the URLs below its own, and to no others."""
    middlewares: list[RetryMiddleware | AddHeadersMiddleware | MirrorMiddleware] = []
    if retries:
        middlewares.append(RetryMiddleware(retries))
    mirrors = {base(c["url"]): [with_token(c)] for c in credentials if c.get("token")}
    if mirrors:
        middlewares.append(MirrorMiddleware(mirrors))
    headers = [(urlsplit(c["url"]), value) for c in credentials if (value := authorization(c))]
    if headers:

        def add(host: str, path: str) -> dict[str, str] | None:
            for url, value in headers:
                if url.hostname == host and f"{path}/".startswith(f"{url.path.rstrip('/')}/"):
                    return {"Authorization": value}
            return None

        middlewares.append(AddHeadersMiddleware(add))
    return Client(list(middlewares), user_agent=USER_AGENT)


def explain_transfer(error: BaseException, what: str) -> EngineError:
    """The reason why `what` could not be fetched."""
    text = without_credentials(str(error))
    status = http_status(error)
    if status in (401, 403, 407):
        return EngineError("auth", f"The server refused access to {what} (HTTP status {status}).")
    if status is not None:
        return EngineError("network", f"Could not fetch {what}: HTTP status {status}.")
    reason = explain(error)
    if reason.kind != "internal":
        return reason
    return EngineError("network", f"Could not fetch {what}: {text}{_what_to_do(text)}")


def _what_to_do(text: str) -> str:
    """Returns what else may be wrong than the server, if its certificate is not taken."""
    if _CERTIFICATE not in text:
        return ""
    if _WRONG_TIME.search(text):
        now = datetime.now(UTC)
        return f". By this machine's clock it is {now:%Y-%m-%d %H:%M} UTC: is that right?"
    return (
        ". If it is of an authority of your own, start the daemon with SSL_CERT_FILE, the path of "
        "a file with the certificates that are trusted"
    )


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an error of rattler speaks of."""
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None
