"""Names that somebody may have meant who wrote another."""

import string
from collections.abc import Iterator

_CHARACTERS = string.ascii_lowercase + string.digits + "-_."
# There are about 80 for each character, and long names are copied and not typed.
_LONGEST = 40


def similar(name: str) -> set[str]:
    """Returns what a name could be with one character more, less, another, or two swapped."""
    return set(_edits(name)) - {name, ""} if len(name) <= _LONGEST else set()


def _edits(name: str) -> Iterator[str]:
    for place in range(len(name) + 1):
        start, rest = name[:place], name[place:]
        yield start + rest[1:]
        yield start + rest[1:2] + rest[:1] + rest[2:]
        for character in _CHARACTERS:
            yield start + character + rest
            yield start + character + rest[1:]
