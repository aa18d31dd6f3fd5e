"""Plain values as YAML text, of which there may be megabytes."""

from collections.abc import Iterator
from typing import Any

import yaml

_ITEMS_AT_ONCE = 20
_NO_WIDTH = 2**31 - 1


class _Dumper(yaml.CSafeDumper):
    """libyaml's emitter, which is ten times as fast as PyYAML's own."""

    def ignore_aliases(self, _: Any) -> bool:
        """Returns that a value is written as often as it occurs: no reader has to take aliases."""
        return True


def dump(document: dict[str, Any]) -> str:
    """Returns the text of a mapping whose keys are plain words.

    A list is written some items at a time, because libyaml lets no other thread run meanwhile.
    """
    return "".join(piece for key, value in document.items() for piece in _pieces(key, value))


def _pieces(key: str, value: Any) -> Iterator[str]:
    if not isinstance(value, list) or not value:
        yield _text({key: value})
        return
    yield f"{key}:\n"
    for start in range(0, len(value), _ITEMS_AT_ONCE):
        yield _text(value[start : start + _ITEMS_AT_ONCE])


def _text(value: Any) -> str:
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_NO_WIDTH
    )
    return text
