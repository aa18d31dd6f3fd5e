"""Stored specifications as text to read and to edit, and where in a text something is wrong."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

_ORDER = ("name", "description", "channels", "dependencies", "variables")
_MARKED = re.compile(r"line (\d+), column \d+: (.*)", re.DOTALL)
_PLACED = re.compile(r"(.*) \(type=\w+, loc=(\(.*\))\)", re.DOTALL)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_SHOWN = 20


@dataclass(frozen=True)
class Problem:
    """What is wrong with a text, and in which line, if that is known."""

    line: int | None
    message: str
    details: str = ""
    """All that is known of it, if that is more."""


def text_of(stored: Mapping[str, Any], *, is_lockfile: bool) -> str:
    """Returns the environment.yaml of a stored specification; a lockfile's packages are pinned."""
    shown = _of_lockfile(stored) if is_lockfile else stored
    ordered = {key: shown[key] for key in _ORDER if shown.get(key)}
    return str(yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000))


def _of_lockfile(stored: Mapping[str, Any]) -> dict[str, Any]:
    lock = stored.get("lockfile", {})
    channels = [channel.get("url", "") for channel in lock.get("metadata", {}).get("channels", [])]
    packages = {
        (entry["name"], entry["version"], entry.get("manager", "conda"))
        for entry in lock.get("package", [])
    }
    pip = [f"{name}=={version}" for name, version, manager in sorted(packages) if manager == "pip"]
    conda = [f"{name}={version}" for name, version, manager in sorted(packages) if manager != "pip"]
    return {
        "name": stored.get("name"),
        "description": stored.get("description"),
        "channels": channels,
        "dependencies": [*conda, *([{"pip": pip}] if pip else [])],
    }


def problems_of(message: str, text: str) -> list[Problem]:
    """Returns what the message of an `InvalidSpecification` says about a text."""
    found = []
    for line in message.split("\n"):
        marked, placed = _MARKED.fullmatch(line), _PLACED.fullmatch(line)
        if marked:
            found.append(Problem(int(marked[1]), f"{marked[2][:1].upper()}{marked[2][1:]}"))
        elif placed:
            said = placed[1].removeprefix("Value error, ")
            place = ast.literal_eval(placed[2])
            about = f"{place[0]}: " if place else ""
            found.append(Problem(line_of(text, place), f"{about}{said}"))
        elif line and not line.startswith("Unable to parse"):
            found.append(Problem(None, line))
    return found[:MAX_SHOWN] or [Problem(None, message)]


def line_of(text: str, place: tuple[str | int, ...]) -> int | None:
    """Returns the line of a value in a YAML text, or of the nearest thing around it."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    line = None
    for step in place:
        following = _child(node, step)
        if following is None:
            break
        line, node = following
    return line


def _child(node: Any, step: str | int) -> tuple[int, Any] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step].start_mark.line + 1, node.value[step]
    return None
