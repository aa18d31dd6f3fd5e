"""Images that are named by what is in them: `NAMESPACE/python.ge.3.11/numpy[:TAG]`.

A component is a package, or a package with versions: `NAME.OPERATOR.VERSION`, and so on with
further operators: `python.ge.3.11.lt.3.14`. The grammar of repositories has no `=`, `<` and `>`.
"""

import hashlib
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime

from condastore.channels import split_match_spec
from condastore.errors import InvalidInput, InvalidSpecification
from condastore.matchspecs import check_match_spec
from condastore.names import Name
from condastore.oci import canonical

OPERATORS = {"eq": "==", "ne": "!=", "ge": ">=", "gt": ">", "le": "<=", "lt": "<", "v": "="}
PREFIX = "on-demand-"
CUTOFF = "before-"

_SEPARATOR = re.compile(r"\.(eq|ne|ge|gt|le|lt|v)\.")
_ENVIRONMENT = re.compile(r"on-demand-[0-9a-f]{24}(?:-before-[0-9]{4}-[0-9]{2}-[0-9]{2})?")
_DATE = re.compile(r"before-([0-9]{4}-[0-9]{2}-[0-9]{2})")
_DIGITS = 24


def match_specs(components: Sequence[str]) -> tuple[str, ...]:
    """Returns what the components of a name ask for: each once, in one order for all orders.

    Raises `InvalidInput` with what is wrong.
    """
    return tuple(sorted({match_spec(component) for component in components}))


def match_spec(component: str) -> str:
    """Returns the match spec that one component stands for. Raises `InvalidInput`."""
    name, *rest = _SEPARATOR.split(component)
    pairs = zip(rest[::2], rest[1::2], strict=True)
    versions = ",".join(f"{OPERATORS[operator]}{version}" for operator, version in pairs)
    text = f"{name} {versions}" if versions else name
    try:
        if split_match_spec(text).channel is None and check_match_spec(text) == name:
            return text
        reason = "it is no package's name"
    except InvalidSpecification as error:
        reason = str(error)
    raise InvalidInput(
        f"{component!r} should be a package, or a package with versions, as in "
        f"python.ge.3.11.lt.3.14 (operators: {', '.join(OPERATORS)}): {reason}"
    )


def environment_name(specs: Sequence[str], cutoff: date | None = None) -> Name:
    """Returns the name of the environment that a set of match specs is built as."""
    digest = hashlib.sha256(canonical(list(specs))).hexdigest()[:_DIGITS]
    suffix = "" if cutoff is None else f"-{CUTOFF}{cutoff.isoformat()}"
    return Name(f"{PREFIX}{digest}{suffix}")


def is_environment_name(text: str) -> bool:
    """Whether an environment could have been made for an image of this kind."""
    return _ENVIRONMENT.fullmatch(text) is not None


def parse_cutoff(tag: str) -> date | None:
    """Returns the day in a tag `before-YYYY-MM-DD`; None for other tags.

    Raises `InvalidInput` for what begins so but is no day, or is still to come.
    """
    if not tag.startswith(CUTOFF):
        return None
    match = _DATE.fullmatch(tag)
    try:
        day = date.fromisoformat(match[1] if match else "")
    except ValueError:
        raise InvalidInput(f"{tag!r} should be {CUTOFF} and a day, YYYY-MM-DD") from None
    if day > datetime.now(UTC).date():
        raise InvalidInput(f"{tag!r} is a day that is still to come, so what it means may change")
    return day
