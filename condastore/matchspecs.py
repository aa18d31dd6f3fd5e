"""conda match specs: a grammar that refuses nonsense before a solver is started.

It accepts what conda accepts, without what no engine here supports; the solver has the last word.
Every pattern is linear in the length of its text: quantifiers are possessive (fault F64).
"""

import re

from condastore.channels import SUBDIRS, check_channel, split_match_spec
from condastore.errors import InvalidSpecification

MAX_LENGTH = 1000

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*+")
_OPERATOR = r"(?:[=!<>~]=|[=<>])"
_OPERAND = r"[A-Za-z0-9*][A-Za-z0-9_!+*-]*+(?:\.[A-Za-z0-9_!+*-]++)*+"
_VERSION = rf"[ \t(]*+(?:{_OPERATOR}[ \t]*+)?{_OPERAND}\)*+"
_VERSIONS = rf"{_VERSION}(?:[ \t]*+[,|]{_VERSION})*+"
_BUILD = r"[A-Za-z0-9_.*+-]++"
_CONSTRAINT = re.compile(rf"{_VERSIONS}(?:(?:=|[ \t]++){_BUILD})?+[ \t]*+")
_VALUE = r"""(?:'([^'\[\]]*+)'|"([^"\[\]]*+)"|([^\s'",=\[\]]++))"""
_FIELD = re.compile(rf"[ \t]*+([a-z_0-9]++)[ \t]*+=[ \t]*+{_VALUE}[ \t]*+(?:,|$)")
_FIELDS = {
    "version": re.compile(_VERSIONS),
    "build": re.compile(_BUILD),
    "build_number": re.compile(rf"{_OPERATOR}?[ \t]*+[0-9]++"),
    "subdir": re.compile("|".join(map(re.escape, sorted(SUBDIRS)))),
    "md5": re.compile("[0-9A-Fa-f]{32}"),
    "sha256": re.compile("[0-9A-Fa-f]{64}"),
    "license": re.compile(".+"),
    "license_family": re.compile(".+"),
}
_UNSUPPORTED_FIELDS = {
    "channel": "write the channel in front, as in conda-forge::numpy",
    "features": "features are not supported",
    "fn": "direct file names are not supported",
    "track_features": "features are not supported",
    "url": "direct URLs are not supported",
}


def check_match_spec(text: str) -> str:
    """Refuses what can't be a match spec; returns the name of the package, in lower case."""
    if len(text) > MAX_LENGTH:
        raise InvalidSpecification(f"it is longer than {MAX_LENGTH} characters")
    channel, _, package = split_match_spec(text)
    if channel is not None:
        check_channel(channel)
    package = package.strip(" \t")
    _refuse_unsupported(package)
    name = _NAME.match(package)
    if name is None:
        raise InvalidSpecification("it does not begin with the name of a package")
    constraint, bracket, fields = package[name.end() :].partition("[")
    _check_constraint(constraint)
    if bracket:
        _check_fields(fields)
    return name.group().lower()


def _refuse_unsupported(package: str) -> None:
    """Refuses with its own text what conda knows but no engine here does."""
    if package.startswith("@"):
        raise InvalidSpecification("features are not supported")
    if "://" in package or package.startswith(("/", "./", "../", "~", "\\", "file:")):
        raise InvalidSpecification("direct URLs and local files are not supported")
    if package.endswith((".conda", ".tar.bz2")):
        raise InvalidSpecification("package files are not supported")
    if "*" in re.split(r"[ \t=<>!~\[]", package, maxsplit=1)[0]:
        raise InvalidSpecification("patterns in the name of a package are not supported")


def _check_constraint(text: str) -> None:
    if not text.strip(" \t"):
        return
    if "^" in text:
        raise InvalidSpecification("regular expressions are not supported")
    separated = text[0] in " \t=<>!~"
    balanced = text.count("(") == text.count(")")
    if not (separated and balanced and _CONSTRAINT.fullmatch(text)):
        raise InvalidSpecification(f"its version and build {text.strip()!r} can't be understood")


def _check_fields(text: str) -> None:
    """Checks what stands in brackets, without the opening one."""
    inner = text.rstrip(" \t")
    if not inner.endswith("]"):
        raise InvalidSpecification("its brackets are not closed at the end")
    inner = inner[:-1].rstrip(" \t")
    position = 0
    while position < len(inner):
        field = _FIELD.match(inner, position)
        if field is None:
            raise InvalidSpecification("its brackets should hold key=value pairs")
        key, *values = field.groups()
        _check_field(key, next(value for value in values if value is not None))
        position = field.end()


def _check_field(key: str, value: str) -> None:
    if key in _UNSUPPORTED_FIELDS:
        raise InvalidSpecification(_UNSUPPORTED_FIELDS[key])
    if key not in _FIELDS:
        raise InvalidSpecification(f"the key {key!r} in its brackets is not known")
    if not _FIELDS[key].fullmatch(value):
        raise InvalidSpecification(f"the value {value!r} of {key} in its brackets is not valid")
