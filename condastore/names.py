"""Checked names of namespaces and environments (rest-api §9.1).

A name is part of storage keys, of symlinks and of build keys, so what could leave a directory or be
taken for an option is refused here, once, at the edge; the type `Name` says that it was.
"""

import re
from collections.abc import Iterable
from typing import NewType

from condastore.errors import InvalidInput

Name = NewType("Name", str)

NAME_PATTERN = "^[A-Za-z0-9-+_@$&?^~.=]+$"
MAX_NAME_LENGTH = 255

_ALLOWED = re.compile("[A-Za-z0-9-+_@$&?^~.=]+")


def check_name(text: str) -> Name:
    """The text as a name, or `InvalidInput` with the reason why it can't be one."""
    if not matches_pattern(text):
        raise InvalidInput(f"Name {shorten(text)!r} should match pattern '{NAME_PATTERN}'")
    if len(text) > MAX_NAME_LENGTH:
        raise InvalidInput(f"Name should have at most {MAX_NAME_LENGTH} characters")
    if text[0] in ".-":
        raise InvalidInput(f"Name {text!r} should not start with '{text[0]}'")
    return Name(text)


def matches_pattern(text: str) -> bool:
    """Whether the text has one or more of the allowed characters and no other."""
    return _ALLOWED.fullmatch(text) is not None


def shorten(text: str, length: int = 100) -> str:
    """The text, cut for use in a message when it is long."""
    return text if len(text) <= length else text[: length - 3] + "..."


def set_text(names: Iterable[str]) -> str:
    """Names as Python writes a set, which the contract's messages show, but in a fixed order."""
    return "{" + ", ".join(repr(name) for name in sorted(names)) + "}"
