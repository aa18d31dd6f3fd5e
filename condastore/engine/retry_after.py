"""How long a server that is too busy wants to be left alone (`Retry-After`).

Rattler keeps the headers of an answer to itself, so the server is asked once more, without a body.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from condastore.engine.credentials import opened
from condastore.engine.jobs import Credential
from condastore.engine.network import USER_AGENT

BUSY = (429, 503)
MOST_S = 60.0
_TIMEOUT_S = 10


def asked_wait_s(url: str, credentials: Sequence[Credential]) -> float:
    """Returns the seconds, `MOST_S` at most; 0 if the server is not busy any more or doesn't say.

    It blocks.
    """
    address, authorization = opened(url, credentials)
    request = Request(address, method="HEAD", headers={"User-Agent": USER_AGENT})
    if authorization is not None:
        # A redirect to another place does not take it along.
        request.add_unredirected_header("Authorization", authorization)
    try:
        with urlopen(request, timeout=_TIMEOUT_S):
            return 0.0
    except HTTPError as error:
        with error:
            return min(max(_seconds(error.headers), 0.0), MOST_S) if error.code in BUSY else 0.0
    except (OSError, HTTPException, ValueError):
        return 0.0


def _seconds(headers: Message) -> float:
    value = str(headers.get("Retry-After", "")).strip()
    if value.isdecimal():
        return float(value)
    until = _date(value)
    if until is None:
        return 0.0
    # By the server's clock, if it tells the time.
    now = _date(str(headers.get("Date", ""))) or datetime.now(UTC)
    return math.ceil((until - now).total_seconds())


def _date(text: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
