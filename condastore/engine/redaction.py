"""Takes credentials out of text before it leaves the process."""

import re

_USER_INFO = re.compile(r"(?<=://)[^/\s@\"']+@")
_TOKEN_PATH = re.compile(r"(https?://[^/\s\"']+)/t/[^/\s\"']+")


def without_credentials(text: str) -> str:
    """The same text with `user:password@` and `/t/TOKEN` taken out of every URL in it."""
    return _TOKEN_PATH.sub(r"\1", _USER_INFO.sub("", text))
