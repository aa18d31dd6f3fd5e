"""Plain values as YAML text, at a rate of megabytes a second.

PyYAML's own emitter is slow, and its twin in C lets no other thread run before it has ended.
"""

import json
import re
from typing import Any

# What no reader of YAML takes for anything but the text that it is.
_PLAIN = re.compile(
    r"[A-Za-z_/](?:[A-Za-z0-9_./+@=%<>!*,~-]|:(?=[/A-Za-z])| (?=[A-Za-z0-9<>=!*.]))*"
)
_NOT_TEXT = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
# What JSON leaves as it is, and YAML wants to have escaped.
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
# YAML reads no longer key without a question mark before it.
_LONGEST_KEY = 1000


def dump(value: Any) -> str:
    """The text of a value of dictionaries, lists, texts, integers, booleans and None."""
    lines: list[str] = []
    _add(value, "", "", lines)
    return "\n".join([*lines, ""])


def _add(value: Any, first: str, rest: str, lines: list[str]) -> None:
    """Adds the lines of a value: `first` begins the first of them, `rest` those that follow."""
    if isinstance(value, dict) and value:
        for key, member in value.items():
            _add_member(scalar(key), member, first, rest, lines)
            first = rest
    elif isinstance(value, list) and value:
        for member in value:
            _add(member, f"{first}- ", f"{rest}  ", lines)
            first = rest
    else:
        lines.append(first + scalar(value))


def _add_member(key: str, value: Any, first: str, rest: str, lines: list[str]) -> None:
    if len(key) > _LONGEST_KEY:
        lines.append(f"{first}? {key}")
        _add(value, f"{rest}: ", f"{rest}  ", lines)
    elif value and isinstance(value, dict | list):
        lines.append(f"{first}{key}:")
        below = rest if isinstance(value, list) else f"{rest}  "
        _add(value, below, below, lines)
    else:
        lines.append(f"{first}{key}: {scalar(value)}")


def scalar(value: Any) -> str:
    """The text of a value without members; what could mean something else is in quotes."""
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _NOT_TEXT:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", quoted)
