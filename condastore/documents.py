"""Text from users to plain values: JSON, or YAML without its dangerous parts (faults F62, F63).

Refused are aliases, anchors, merge keys, tags, duplicate keys, more than one document, deep nesting
and control characters. Plain scalars mean what they mean in YAML 1.2, except that fractions and
huge numbers stay the text that they were: `3.10` is a version far more often than a number.
"""

import io
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from condastore.errors import InvalidSpecification
from condastore.names import shorten

INVALID = "Unable to parse. Invalid YAML"
MAX_DEPTH = 32


class Limits(NamedTuple):
    """How much text, and how many values in it, are read."""

    size_bytes: int
    nodes: int


_NodeEvent = yaml.ScalarEvent | yaml.CollectionStartEvent
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTANTS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_INTEGER = re.compile("[-+]?(?:0|[1-9][0-9]{0,17})")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def load(text: str, limits: Limits) -> Any:
    """The value that a JSON or YAML text describes; `InvalidSpecification` if there is none."""
    _check_size(text, limits)
    may_be_json = text.lstrip().startswith(("{", "["))
    value = _load_json(text, limits) if may_be_json else _load_yaml(text, limits)
    _check(value, limits)
    return value


def lines(text: str, limits: Limits) -> Iterator[str]:
    """Yields the lines of a text that is neither; `InvalidSpecification` if there are too many."""
    _check_size(text, limits)
    for number, line in enumerate(io.StringIO(text, newline="\n"), 1):
        if number > limits.nodes:
            raise InvalidSpecification(f"The specification has more than {limits.nodes} lines")
        _check_text(line)
        yield line.strip()


def _check_size(text: str, limits: Limits) -> None:
    size = limits.size_bytes
    if len(text) > size or len(text.encode(errors="replace")) > size:
        raise InvalidSpecification(f"The specification is larger than {size} bytes")


def _load_json(text: str, limits: Limits) -> Any:
    """JSON, which is many times faster to read than YAML; what isn't JSON may still be YAML."""
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_int=_integer_or_text,
            parse_float=str,
            parse_constant=str,
        )
    except RecursionError:
        raise _invalid("nested too deeply") from None
    except ValueError:
        return _load_yaml(text, limits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _invalid("a key appears twice in one mapping")
    return found


def _load_yaml(text: str, limits: Limits) -> Any:
    builder = _Builder(limits)
    try:
        for event in yaml.parse(text, Loader=_Loader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        raise _invalid(str(error.problem), error.problem_mark) from None
    except (yaml.YAMLError, UnicodeEncodeError):
        raise _invalid("it contains characters that are not allowed") from None
    return builder.root


class _Builder:
    """Makes plain values of YAML events as they come, so that a check precedes all growth."""

    def __init__(self, limits: Limits) -> None:
        self.root: Any = None
        self._nodes_left = limits.nodes
        self._documents = 0
        self._open: list[list[Any] | _Mapping] = []

    def take(self, event: yaml.Event) -> None:
        """Adds what one event says."""
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise _invalid("there is more than one document", event.start_mark)
            case yaml.AliasEvent():
                raise _invalid("aliases are not supported", event.start_mark)
            case yaml.ScalarEvent() | yaml.CollectionStartEvent():
                self._node(event)
            case yaml.CollectionEndEvent():
                self._open.pop()

    def _node(self, event: _NodeEvent) -> None:
        self._check(event)
        parent = self._open[-1] if self._open else None
        if isinstance(parent, _Mapping) and parent.key is None:
            parent.key = _key(event, parent.items)
            return
        value, container = _value(event)
        if isinstance(parent, _Mapping):
            parent.items[parent.key or ""] = value
            parent.key = None
        elif parent is not None:
            parent.append(value)
        else:
            self.root = value
        if container is not None:
            self._open.append(container)

    def _check(self, event: _NodeEvent) -> None:
        self._nodes_left -= 1
        if self._nodes_left < 0:
            raise _invalid("it has too many values", event.start_mark)
        if len(self._open) > MAX_DEPTH:
            raise _invalid("nested too deeply", event.start_mark)
        if event.anchor is not None:
            raise _invalid("anchors are not supported", event.start_mark)
        if event.tag is not None:
            raise _invalid("tags are not supported", event.start_mark)


class _Mapping:
    """A mapping that is being read; `key` waits for its value."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.key: str | None = None


def _key(event: _NodeEvent, known: dict[str, Any]) -> str:
    """The key that an event is, always as text."""
    if not isinstance(event, yaml.ScalarEvent):
        raise _invalid("a key should be a text", event.start_mark)
    key: str = event.value
    if key == "<<" and event.implicit[0]:
        raise _invalid("merge keys are not supported", event.start_mark)
    if key in known:
        raise _invalid(f"the key {shorten(key)!r} appears twice", event.start_mark)
    return key


def _value(event: _NodeEvent) -> tuple[Any, "list[Any] | _Mapping | None"]:
    """The value that an event begins, and the container to fill when it has members."""
    if isinstance(event, yaml.ScalarEvent):
        return _scalar(event), None
    if isinstance(event, yaml.MappingStartEvent):
        mapping = _Mapping()
        return mapping.items, mapping
    members: list[Any] = []
    return members, members


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if not event.implicit[0]:  # quoted or a block
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    return _integer_or_text(text)


def _integer_or_text(text: str) -> int | str:
    return int(text) if _INTEGER.fullmatch(text) else text


def _check(value: Any, limits: Limits) -> None:
    """Looks at every value and key, without recursion and no deeper than the limit."""
    nodes = 0
    waiting = [(value, 0)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        if isinstance(node, str):
            _check_text(node)
        elif isinstance(node, dict):
            waiting.extend((key, depth) for key in node)
            waiting.extend((member, depth + 1) for member in node.values())
        elif isinstance(node, list):
            waiting.extend((member, depth + 1) for member in node)
        if depth > MAX_DEPTH or nodes > limits.nodes:
            raise _invalid("nested too deeply" if depth > MAX_DEPTH else "it has too many values")


def _check_text(text: str) -> None:
    if _CONTROL.search(text):
        raise _invalid(f"{shorten(text)!r} contains control characters")


def _invalid(problem: str, mark: Any = None) -> InvalidSpecification:
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    return InvalidSpecification(f"{INVALID}\n{place}{problem}")
