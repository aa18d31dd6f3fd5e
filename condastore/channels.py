"""Channels: from what a specification says to the URLs that a solve uses (rest-api §9.3)."""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from condastore.errors import InvalidSpecification
from condastore.names import set_text, shorten

MAX_CHANNEL_LENGTH = 2048
SCHEMES = ("https", "http", "file", "s3")
SUBDIRS = frozenset(
    {
        "noarch",
        "emscripten-wasm32",
        "freebsd-64",
        "linux-32",
        "linux-64",
        "linux-aarch64",
        "linux-armv6l",
        "linux-armv7l",
        "linux-loongarch64",
        "linux-ppc64",
        "linux-ppc64le",
        "linux-riscv32",
        "linux-riscv64",
        "linux-s390x",
        "osx-64",
        "osx-arm64",
        "wasi-wasm32",
        "win-32",
        "win-64",
        "win-arm64",
        "zos-z",
    }
)

_BARE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+~-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+~-]*)*/*")
_URL_CHARACTERS = re.compile(r"[!&'()*+,./0-9:;=@A-Z_a-z~%\[\]-]+")
_CREDENTIALS = re.compile(r"://[^/\s]*@|/t/[^/\s]")

# conda's "defaults" is a list of channels; these are its members below any alias (rest-api §7).
_DEFAULTS = ("main", "r")


class Qualified(NamedTuple):
    """A match spec apart from the channel and subdir that it may name."""

    channel: str | None
    subdir: str | None
    package: str


def check_channel(channel: str) -> None:
    """Refuses what is neither a channel's name nor a URL of a known scheme without credentials."""
    if len(channel) > MAX_CHANNEL_LENGTH:
        raise InvalidSpecification(
            f"Channel {shown(channel)} is longer than {MAX_CHANNEL_LENGTH} characters"
        )
    if "://" in channel:
        check_url(channel)
    elif not _BARE_NAME.fullmatch(channel):
        raise InvalidSpecification(
            f"Channel {shown(channel)!r} should be a name like conda-forge,"
            f" or a URL with one of the schemes {', '.join(SCHEMES)}"
        )


def check_url(url: str) -> None:
    """Refuses a URL with another scheme, with credentials, or with what no channel has."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise InvalidSpecification("A URL in the specification can't be parsed") from None
    if has_credentials(url):
        # The URL is not repeated: it would carry the secret into logs and answers.
        raise InvalidSpecification(
            f"The URL of {parts.hostname or 'a channel'} contains credentials;"
            " leave them out and set them in CondaStore.channel_credentials"
        )
    if parts.scheme not in SCHEMES:
        raise InvalidSpecification(
            f"URL {shown(url)!r} should have one of the schemes {', '.join(SCHEMES)}"
        )
    if not _URL_CHARACTERS.fullmatch(url) or not (parts.netloc or parts.scheme == "file"):
        raise InvalidSpecification(
            f"URL {shown(url)!r} is not valid; it should be scheme://host/path"
        )
    if ".." in parts.path.split("/"):
        raise InvalidSpecification(f"URL {shown(url)!r} should not contain '..'")


def check_subdir(platform: str) -> None:
    """Refuses what is not a platform of conda."""
    if platform not in SUBDIRS:
        raise InvalidSpecification(
            f"Platform {shown(platform)!r} should be one of {', '.join(sorted(SUBDIRS))}"
        )


def has_credentials(text: str) -> bool:
    """Whether a URL in the text carries a user, a password or an anaconda token."""
    return "://" in text and _CREDENTIALS.search(text) is not None


def shown(text: str) -> str:
    """The text for use in a message: short, and without secrets."""
    return "(a URL with credentials)" if has_credentials(text) else shorten(text)


def resolve(channel: str, alias: str) -> tuple[str, ...]:
    """The URLs that a channel stands for: one, or those of `defaults`, or none for `nodefaults`."""
    if channel == "nodefaults":
        return ()
    base = alias.rstrip("/")
    if channel == "defaults":
        return tuple(f"{base}/{name}" for name in _DEFAULTS)
    bare = channel.rstrip("/")
    return (bare if "://" in channel else f"{base}/{bare}",)


def split_match_spec(text: str) -> Qualified:
    """Splits `channel::package` and `channel/subdir::package`; others stay whole."""
    channel, separator, package = text.partition("::")
    if not separator or "[" in channel:
        return Qualified(None, None, text)
    channel = channel.strip(" \t").rstrip("/")
    parent, slash, last = channel.rpartition("/")
    if slash and last in SUBDIRS:
        return Qualified(parent, last, package)
    return Qualified(channel, None, package)


def resolve_match_spec(text: str, alias: str) -> str:
    """The match spec with the URL of the channel that it names; of `defaults` it is the first."""
    channel, subdir, package = split_match_spec(text)
    urls = resolve(channel, alias) if channel is not None else ()
    if not urls:
        return package
    return f"{urls[0]}/{subdir}::{package}" if subdir else f"{urls[0]}::{package}"


def channel_urls(channels: Iterable[str], match_specs: Iterable[str], alias: str) -> list[str]:
    """All channels of a solve in priority order: those listed, then those match specs name."""
    named = (split_match_spec(text).channel for text in match_specs)
    everything = [*channels, *(channel for channel in named if channel is not None)]
    return list(dict.fromkeys(url for channel in everything for url in resolve(channel, alias)))


def check_allowed(urls: Iterable[str], allowed: Sequence[str], alias: str) -> None:
    """Refuses URLs that are not of allowed channels; an empty list allows all (rest-api §9.3)."""
    allowed_urls = {url for channel in allowed for url in resolve(channel, alias)}
    excess = set(urls) - allowed_urls
    if allowed and excess:
        raise InvalidSpecification(
            f"Conda channels {set_text(excess)} not allowed in specification"
        )
