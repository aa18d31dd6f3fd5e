"""The entries of a `pip:` block: PEP 508 requirements and a few options (rest-api §9.2)."""

import re
from urllib.parse import urlsplit

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from condastore.channels import has_credentials
from condastore.errors import InvalidSpecification
from condastore.names import shorten

MAX_LENGTH = 2000
OPTIONS = ("--index-url", "--extra-index-url", "--trusted-host")

_OPTION = re.compile(r"(--[a-z-]+)(?: +|=)(\S+)")
_HOST = re.compile(r"[A-Za-z0-9.-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_INDEX_SCHEMES = ("https", "http", "file")
_DIRECT_SCHEMES = ("https", "http", "git+https", "git+http")


def check_requirement(entry: str) -> str:
    """Refuses what isn't an entry of a pip block; returns what it's compared by.

    That is the normalised name of the project, or the whole text of an option (rest-api §9.3).
    """
    if len(entry) > MAX_LENGTH:
        raise InvalidSpecification(
            f'The pip entry "{shorten(entry)}" is longer than {MAX_LENGTH} characters'
        )
    if entry.startswith("-"):
        _check_option(entry)
        return entry
    return _check_project(entry)


def _check_option(entry: str) -> None:
    match = _OPTION.fullmatch(entry)
    if match is None or match[1] not in OPTIONS:
        _refuse_secret(entry)
        raise _invalid_option(entry)
    option, value = match.groups()
    if option == "--trusted-host":
        if not _HOST.fullmatch(value):
            raise _invalid_option(entry)
    else:
        _check_url(value, _INDEX_SCHEMES)


def _invalid_option(entry: str) -> InvalidSpecification:
    return InvalidSpecification(
        f"Invalid pip option '{shorten(entry)}' supported options are {list(OPTIONS)}"
    )


def _check_project(entry: str) -> str:
    _refuse_secret(entry)
    try:
        # A line break would end the entry's line in a requirements file and begin another.
        if "\n" in entry or "\r" in entry:
            raise InvalidRequirement("line break")
        requirement = Requirement(entry)
    except (InvalidRequirement, RecursionError):
        raise InvalidSpecification(
            f'Invalid pypi package dependency "{shorten(entry)}" ensure it follows peps'
            " https://peps.python.org/pep-0508/ and https://peps.python.org/pep-0440/"
        ) from None
    if requirement.url is not None:
        _check_url(requirement.url, _DIRECT_SCHEMES)
    return canonicalize_name(requirement.name)


def _check_url(url: str, schemes: tuple[str, ...]) -> None:
    _refuse_secret(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in schemes or not (parts.netloc or parts.scheme == "file"):
        raise InvalidSpecification(
            f"URL {shorten(url)!r} should have one of the schemes {', '.join(schemes)}"
        )


def _refuse_secret(text: str) -> None:
    """Refuses a URL with credentials, without repeating it: messages end up in logs and answers."""
    if has_credentials(text):
        raise InvalidSpecification(
            "A URL in a pip block contains credentials; leave them out and set them in"
            " CondaStore.channel_credentials"
        )
