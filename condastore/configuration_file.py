"""The complete configuration file, every setting commented out: `config.example.py` is one."""

import inspect
import textwrap
from collections.abc import Sequence
from typing import Any

from traitlets import TraitType
from traitlets.config import Configurable

HEADER = """\
# Configuration of condastore. Use it with: condastore serve --config=FILE
#
# Every setting is here with its default; remove the # before one to change it. Where the default
# depends on the machine or on other settings, the text above says how, and the value is `...`.

c = get_config()
"""
_WIDTH = 98


def configuration_file(classes: Sequence[type[Configurable]]) -> str:
    """Returns the file for these classes; it is Python, and changes nothing as it is."""
    return "\n".join([HEADER, *map(_section, classes)])


def _section(section: type[Configurable]) -> str:
    lines = [_comment(f"{section.__name__}: {inspect.getdoc(section)}"), ""]
    # What traitlets adds to every application is for a logger that condastore doesn't use.
    for name, trait in sorted(section.class_own_traits(config=True).items()):
        lines += [_comment(trait.help), f"# c.{section.__name__}.{name} = {_default(trait)}", ""]
    return "\n".join(["#" + "-" * (_WIDTH - 1), *lines])


def _comment(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()),
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _default(trait: TraitType[Any, Any]) -> str:
    value = trait.default_value_repr()
    return "..." if value in ("''", "None", "[]") and "Default:" in (trait.help or "") else value
