"""Reads an environment.yaml and says everything that is wrong with it at once (rest-api §9.2)."""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from condastore import documents
from condastore.channels import check_channel, shown
from condastore.errors import CondaStoreError, InvalidSpecification
from condastore.matchspecs import check_match_spec
from condastore.names import NAME_PATTERN, Name, check_name, matches_pattern, shorten
from condastore.requirements import check_requirement
from condastore.specification import CondaSpecification, PipBlock

MAX_PROBLEMS = 100

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")


class Limits(NamedTuple):
    """The largest specification that is accepted; entries of pip blocks count as dependencies."""

    size_bytes: int = 2**20
    nodes: int = 50_000
    channels: int = 100
    dependencies: int = 10_000
    variables: int = 1_000
    text_length: int = 2**16


DEFAULT_LIMITS = Limits()


def parse(text: str, limits: Limits = DEFAULT_LIMITS) -> CondaSpecification:
    """The specification in a YAML or JSON text, or `InvalidSpecification`: one line per problem."""
    value = documents.load(text, documents.Limits(limits.size_bytes, limits.nodes))
    return from_value(value, limits)


def from_value(value: object, limits: Limits = DEFAULT_LIMITS) -> CondaSpecification:
    """The specification in plain values; unknown keys are dropped."""
    problems = _Problems()
    if not isinstance(value, dict):
        raise InvalidSpecification(
            _line(
                "Input should be a valid dictionary or object to extract fields from",
                "model_attributes_type",
            )
        )
    specification = _Reader(problems, limits).specification(value)
    problems.refuse_any()
    return specification


def _line(message: str, kind: str, *place: str | int) -> str:
    return f"{message} (type={kind}, loc={place})"


class _Problems:
    """What is wrong so far, each with the place where it is."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, message: str, kind: str, *place: str | int) -> None:
        self._lines.append(_line(message, kind, *place))

    def refuse_any(self) -> None:
        """Raises if there is a problem."""
        if not self._lines:
            return
        lines = self._lines[:MAX_PROBLEMS]
        if len(self._lines) > MAX_PROBLEMS:
            lines.append(f"... and {len(self._lines) - MAX_PROBLEMS} more")
        raise InvalidSpecification("\n".join(lines))


class _Reader:
    """Reads one field after the other; a wrong one is noted and left empty."""

    def __init__(self, problems: _Problems, limits: Limits) -> None:
        self._problems = problems
        self._limits = limits

    def specification(self, value: dict[str, Any]) -> CondaSpecification:
        return CondaSpecification(
            channels=tuple(self._channels(value.get("channels", []))),
            dependencies=tuple(self._dependencies(value.get("dependencies", []))),
            description=self._optional_text(value, "description", ""),
            name=self._name(value),
            prefix=self._optional_text(value, "prefix", None),
            variables=self._variables(value.get("variables")),
        )

    def _name(self, value: dict[str, Any]) -> Name:
        if "name" not in value:
            self._problems.add("Field required", "missing", "name")
        elif self._is_text(value["name"], "name"):
            name = value["name"]
            if matches_pattern(name):
                self._passes(check_name, name, "name")
            else:
                self._problems.add(
                    f"String should match pattern '{NAME_PATTERN}'",
                    "string_pattern_mismatch",
                    "name",
                )
            return Name(name)
        return Name("")

    def _optional_text(self, value: dict[str, Any], key: str, default: str | None) -> str | None:
        text = value.get(key, default)
        if text is None or not self._is_text(text, key):
            return None
        if len(text) > self._limits.text_length:
            self._wrong(f"{key} is longer than {self._limits.text_length} characters", key)
        return str(text)

    def _channels(self, value: object) -> Iterator[str]:
        for place, channel in self._members(value, self._limits.channels, "channels"):
            if self._is_text(channel, *place) and self._passes(check_channel, channel, *place):
                yield channel

    def _dependencies(self, value: object) -> Iterator[str | PipBlock]:
        left = self._limits.dependencies
        for place, entry in self._members(value, left, "dependencies"):
            if isinstance(entry, dict) and entry.keys() == {"pip"}:
                block = PipBlock(tuple(self._requirements(entry["pip"], left, *place, "pip")))
                left -= len(block.pip)
                yield block
            elif not isinstance(entry, str):
                self._problems.add(
                    "Input should be a valid string or {'pip': [...]}", "string_type", *place
                )
            elif self._is_match_spec(entry, *place):
                yield entry

    def _requirements(self, value: object, limit: int, *place: str | int) -> Iterator[str]:
        for where, entry in self._members(value, limit, *place):
            if self._is_text(entry, *where) and self._passes(check_requirement, entry, *where):
                yield entry

    def _variables(self, value: object) -> dict[str, str | int] | None:
        if value is None:
            return None
        # The web UI sends an empty list for no variables (rest-api §16).
        members = {} if value == [] else value
        if not isinstance(members, dict):
            self._problems.add("Input should be a valid dictionary", "dict_type", "variables")
            return None
        if len(members) > self._limits.variables:
            self._wrong(f"more than {self._limits.variables} variables", "variables")
            return None
        return {key: text for key, text in members.items() if self._is_variable(key, text)}

    def _is_variable(self, key: str, value: object) -> bool:
        place = ("variables", shorten(key))
        if not _VARIABLE.fullmatch(key):
            self._wrong("a variable's name should have only letters, digits and _", *place)
            return False
        if isinstance(value, bool) or not isinstance(value, str | int):
            self._problems.add(
                "Input should be a valid string or integer; put it in quotes",
                "string_type",
                *place,
            )
            return False
        if isinstance(value, str) and len(value) > self._limits.text_length:
            self._wrong(f"longer than {self._limits.text_length} characters", *place)
            return False
        return True

    def _is_match_spec(self, text: str, *place: str | int) -> bool:
        try:
            check_match_spec(text)
        except InvalidSpecification as error:
            self._wrong(
                f"Invalid conda package dependency specification {shown(text)}: {error}", *place
            )
            return False
        return True

    def _members(
        self, value: object, limit: int, *place: str | int
    ) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """The members of what should be a list, each with its place."""
        if not isinstance(value, list):
            self._problems.add("Input should be a valid list", "list_type", *place)
        elif len(value) > limit:
            self._wrong(f"too many entries: {len(value)}, allowed are {limit}", *place)
        else:
            for index, member in enumerate(value):
                yield (*place, index), member

    def _is_text(self, value: object, *place: str | int) -> bool:
        if isinstance(value, str):
            return True
        self._problems.add("Input should be a valid string", "string_type", *place)
        return False

    def _passes(self, check: Callable[[str], object], text: str, *place: str | int) -> bool:
        try:
            check(text)
        except CondaStoreError as error:
            self._wrong(str(error), *place)
            return False
        return True

    def _wrong(self, message: str, *place: str | int) -> None:
        self._problems.add(f"Value error, {message}", "value_error", *place)
