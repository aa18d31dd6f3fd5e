"""What a `pip:` section asks for, and from which indexes with which credentials."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from condastore.engine.events import EngineError

_OPTION = re.compile(r"(--index-url|--extra-index-url|--trusted-host)(?:\s+|\s*=\s*)(\S+)")
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][\w.-]*\s*(\[[^\]]*\])?\s*(@\s*https?://\S.*|[<>=!~;(].*|)", re.ASCII
)
# By the convention of package indexes: the name that goes with a token instead of a password.
_USER_OF_TOKENS = "__token__"


@dataclass(frozen=True)
class Sources:
    """A `pip:` section in uv's words."""

    requirements: tuple[str, ...]
    arguments: tuple[str, ...]
    """Options for uv's command line; they hold no secret."""
    environment: dict[str, str]
    """The credentials of the indexes: uv takes them from variables named after each index."""


def read_sources(
    lines: Iterable[str], index_url: str | None, credentials: Sequence[Mapping[str, Any]]
) -> Sources:
    """Reads the lines of a `pip:` section; `index_url` is the index if no line names another."""
    requirements: list[str] = []
    extra_urls: list[str] = []
    hosts: list[str] = []
    for line in map(str.strip, lines):
        option = _OPTION.fullmatch(line)
        match option.groups() if option else (None, line):
            case ("--index-url", url):
                index_url = _checked_index(url)
            case ("--extra-index-url", url):
                extra_urls.append(_checked_index(url))
            case ("--trusted-host", host):
                hosts.append(host)
            case _:
                requirements.append(_checked(line))
    indexes = _Indexes(credentials)
    if index_url is not None:
        indexes.add("--default-index", index_url)
    for url in extra_urls:
        indexes.add("--index", url)
    for host in hosts:
        indexes.arguments += ["--allow-insecure-host", host]
    return Sources(tuple(requirements), tuple(indexes.arguments), indexes.environment)


def file_sources(urls: Iterable[str], credentials: Sequence[Mapping[str, Any]]) -> Sources:
    """What uv needs to fetch just these files: the credentials of the servers that hold them."""
    origins = {_origin(urlsplit(url)) for url in urls}
    indexes = _Indexes(credentials)
    for credential in credentials:
        if _origin(urlsplit(credential["url"])) in origins:
            indexes.add("--index", credential["url"])
    return Sources((), tuple(indexes.arguments), indexes.environment)


class _Indexes:
    """Gives each index a name, so that its credentials can travel in variables."""

    def __init__(self, credentials: Sequence[Mapping[str, Any]]) -> None:
        self.arguments: list[str] = []
        self.environment: dict[str, str] = {}
        self._credentials = credentials
        self._count = 0

    def add(self, option: str, url: str) -> None:
        name, self._count = f"index{self._count}", self._count + 1
        parts = urlsplit(url)
        address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self.arguments += [option, f"{name}={address}"]
        user, password = _user_in(parts) or self._user_for(address)
        if user:
            self.environment[f"UV_INDEX_{name.upper()}_USERNAME"] = user
            self.environment[f"UV_INDEX_{name.upper()}_PASSWORD"] = password

    def _user_for(self, address: str) -> tuple[str, str]:
        for credential in self._credentials:
            if _is_below(address, credential["url"]):
                secret = credential.get("token") or credential.get("bearer")
                if secret:
                    return _USER_OF_TOKENS, secret
                return credential["username"], credential.get("password", "")
        return "", ""


def _user_in(parts: SplitResult) -> tuple[str, str] | None:
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def _is_below(address: str, url: str) -> bool:
    return f"{address.rstrip('/')}/".startswith(f"{url.rstrip('/')}/")


def _origin(parts: SplitResult) -> tuple[str, str | None, int | None]:
    return parts.scheme, parts.hostname, parts.port


def _checked(requirement: str) -> str:
    """Lets only names and http URLs through: uv would also read our files, variables and Git."""
    if not _REQUIREMENT.fullmatch(requirement) or "${" in requirement:
        what = "is neither a package's requirement nor one of the supported options"
        raise EngineError("spec", f"pip: {requirement!r} {what}; a URL must be http or https")
    return requirement


def _checked_index(url: str) -> str:
    """Refuses folders of this machine; only an administrator may make one an index."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise EngineError("spec", f"pip: the index {url!r} is no http or https URL")
    return url
