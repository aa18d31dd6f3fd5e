"""The disk over time as a drawing: bands upon each other, in the units of an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from condastore.service.chronicle import OTHERS, DiskHistory

WIDTH, HEIGHT = 1000, 220
# Fewer make no line.
LEAST = 2


@dataclass(frozen=True)
class Band:
    """One namespace's part of the drawing."""

    name: str
    points: str
    """The polygon, as SVG writes it."""
    first: int
    last: int


@dataclass(frozen=True)
class Plot:
    """The drawing, and what it says in words; `top` is the bytes at its upper edge."""

    bands: Sequence[Band]
    top: int
    begin: datetime
    end: datetime
    disk_first: int
    disk_last: int


def plot(history: DiskHistory) -> Plot | None:
    """Returns the drawing of what namespaces take; None while there are too few samples."""
    times = history.times
    if len(times) < LEAST:
        return None
    begin, span = times[0], (times[-1] - times[0]).total_seconds()
    across = [WIDTH * (moment - begin).total_seconds() / span for moment in times]
    sums = [sum(values) for values in zip(*(line.bytes for line in history.lines), strict=True)]
    top = max(sums, default=0) or 1
    floor = [0] * len(times)
    bands = []
    for line in history.lines:
        ceiling = [low + size for low, size in zip(floor, line.bytes, strict=True)]
        upper = [_point(x, y, top) for x, y in zip(across, ceiling, strict=True)]
        lower = [_point(x, y, top) for x, y in zip(across, floor, strict=True)]
        name = "others" if line.name == OTHERS else line.name
        points = " ".join([*upper, *reversed(lower)])
        bands.append(Band(name, points, line.bytes[0], line.bytes[-1]))
        floor = ceiling
    disk = history.disk.bytes
    return Plot(bands, top, begin, times[-1], disk[0], disk[-1])


def _point(x: float, size: int, top: int) -> str:
    return f"{x:.1f},{HEIGHT - HEIGHT * size / top:.1f}"
