"""Numbers, times and failures in words."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from condastore.builds import BuildStatus

# ECMA-48 control sequences, and operating system commands up to their end.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z^_])?")
_MINUS = "\N{MINUS SIGN}"
_UNITS = ("bytes", "kB", "MB", "GB", "TB", "PB")

_ADVICE = (
    (
        r"because of: No candidates were found|does not exist|nothing provides",
        "Check the spelling of the package, whether its channel is listed, and whether the "
        "version that you ask for exists. The package picker shows what there is.",
    ),
    (
        r"Cannot solve|unsatisfiable|conflict|cannot be installed|incompatible",
        "Loosen a version, leave one of the packages out, or add a channel that has what is "
        "missing; preview the solution before you build again.",
    ),
    (
        r"no space left|storage_threshold|disk is full|EDQUOT",
        "Delete builds that nobody needs any more, or ask the administrator for room; then "
        "rebuild.",
    ),
    (
        r"401|403|authenti|credential|not authorized",
        "The channel wants credentials: ask the administrator to set channel_credentials for it.",
    ),
    (
        r"Could not fetch|connect|timed? ?out|dns|Request failed|network|unreachable",
        "The channel could not be reached. Check its address; if it is right, rebuild in a moment.",
    ),
    (
        r"took longer|max_solve_time|max_build_time",
        "Ask for fewer or more exact versions, so that there is less to search; an administrator "
        "can raise the limit.",
    ),
    (
        r"hash|checksum|sha256|md5",
        "A downloaded package is not what its channel said. Rebuild; if it happens again, tell "
        "whoever runs the channel.",
    ),
    (
        r"memory|killed|signal 9|ended without",
        "The build ran out of memory or was killed. Rebuild, or ask the administrator to raise "
        "max_build_memory.",
    ),
    (
        r"\bpip\b|wheel|PyPI|source distribution",
        "A package of the pip section could not be installed: look at the log from the first line "
        "that begins with pip.",
    ),
    (
        r"build_path too long",
        "Choose a shorter name, or ask the administrator for a shorter store_directory.",
    ),
)
_OUTCOMES = {
    BuildStatus.QUEUED: "waits for its turn",
    BuildStatus.BUILDING: "is being made",
    BuildStatus.COMPLETED: "is completed",
    BuildStatus.FAILED: "has failed",
    BuildStatus.CANCELED: "was canceled",
}
_OTHERWISE = (
    "The log has the whole story. If it does not help, rebuild, or show the administrator the "
    "number of this build."
)


def size_text(size: float | None) -> str:
    """Returns a number of bytes, with units of a thousand."""
    if size is None:
        return ""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 or value >= 99.95 else 1
    return f"{value:.{digits}f} {_UNITS[unit]}"


def growth_text(size: int) -> str:
    """Returns by how much something became larger, or smaller."""
    if size == 0:
        return "nothing"
    return f"{'+' if size > 0 else _MINUS}{size_text(abs(size))}"


def duration_text(seconds: float | None) -> str:
    """Returns a length of time."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def duration_between(start: datetime | None, end: datetime | None) -> str:
    """Returns how long something took; nothing while it has not ended."""
    if start is None or end is None:
        return ""
    return duration_text((end - start).total_seconds())


def utc_text(moment: datetime) -> str:
    """Returns a stored time as it can be read without a script."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def outcome(status: BuildStatus) -> str:
    """Returns what became of a build, after its name."""
    return _OUTCOMES[status]


def first_sentence(text: str, longest: int = 400) -> str:
    """Returns the first line of a reason, cut if it is very long."""
    line = text.strip().partition("\n")[0].strip()
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def advice(reason: str) -> str:
    """Returns what to do about the reason why a build failed."""
    for pattern, text in _ADVICE:
        if re.search(pattern, reason, re.IGNORECASE):
            return text
    return _OTHERWISE


def count_text(number: int, one: str, many: str | None = None) -> str:
    """Returns a number of things."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def channel_text(url: str) -> str:
    """Returns the last part of a channel's address, which people call it by."""
    return url.rstrip("/").rpartition("/")[2] or url


def kernel_name(text: str) -> str:
    """Returns a name that Jupyter takes for a kernel."""
    return re.sub("[^A-Za-z0-9._-]", "-", text)


def details_text(details: Mapping[str, Any]) -> str:
    """Returns what the audit log notes besides, as words: `to grace, role viewer`."""
    return ", ".join(
        f"{key.replace('_', ' ')} {_words(value)}"
        for key, value in details.items()
        if value not in (None, "", [], {})
    )


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_words(part)}" for key, part in value.items())
    return " and ".join(map(str, value)) if isinstance(value, list) else str(value)


def without_colours(text: str) -> str:
    """Returns a log without what only a terminal understands."""
    return _ESCAPES.sub("", text)
