"""Replaces the prefix that a package was made with by the one of images."""

import re

Placeholder = tuple[str, str]
"""What stands in a file for the prefix, and whether that is `text` or `binary`."""


def replaced(data: bytes, placeholder: Placeholder, prefix: str) -> bytes:
    """The content of a file as it is in the image."""
    old, mode = placeholder[0].encode(), placeholder[1]
    if mode == "text":
        return data.replace(old, prefix.encode())
    return _in_strings(data, old, prefix.encode())


def _in_strings(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replaces within C strings, which keep their place: zeros fill what they became shorter by."""

    def shorter(match: "re.Match[bytes]") -> bytes:
        found = match.group()
        return found.replace(old, new).ljust(len(found), b"\0")

    return re.sub(re.escape(old) + rb"[^\0]*(?=\0|\Z)", shorter, data)
