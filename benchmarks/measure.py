"""Medians, and the table that shows them beside what they are measured against."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

HEADINGS = ("", "measured", "baseline", "ratio", "target", "")


@dataclass(frozen=True)
class _Row:
    cells: tuple[str, ...]
    met: bool | None


class Table:
    """What one benchmark found; without `judge` it says nothing of its targets."""

    def __init__(self, title: str, baseline: str, *, judge: bool) -> None:
        self._title = f"{title}\nbaseline: {baseline}"
        self._judge = judge
        self._rows: list[_Row] = []
        self._notes: list[str] = []

    def ratio(
        self,
        what: str,
        measured: Sequence[float],
        baseline: Sequence[float],
        most: float | None = None,
        unit: str = "s",
    ) -> None:
        """Compares samples that were taken in turns, pair by pair."""
        ratios = [one / other for one, other in zip(measured, baseline, strict=True)]
        middle = statistics.median(ratios)
        digits = 2 if middle >= 0.1 else 3
        spread = f" ({min(ratios):.{digits}f}-{max(ratios):.{digits}f})" if len(ratios) > 1 else ""
        cells = (_median(measured, unit), _median(baseline, unit), f"{middle:.{digits}f}{spread}")
        limit = None if most is None else f"{most:.3g} x"
        self._add(what, *cells, limit=limit, over=middle, most=most)

    def excess(
        self,
        what: str,
        measured: Sequence[float],
        baseline: Sequence[float],
        most: float | None = None,
        unit: str = "s",
    ) -> None:
        """Compares by difference, pair by pair."""
        middle = statistics.median(
            one - other for one, other in zip(measured, baseline, strict=True)
        )
        cells = (_median(measured, unit), _median(baseline, unit), f"{amount(middle, unit)} more")
        limit = None if most is None else f"{amount(most, unit)} more"
        self._add(what, *cells, limit=limit, over=middle, most=most)

    def value(
        self, what: str, measured: Sequence[float], unit: str, most: float | None = None
    ) -> None:
        """Shows what has no baseline but a limit, or neither."""
        middle = statistics.median(measured)
        limit = None if most is None else amount(most, unit)
        self._add(what, amount(middle, unit), "", "", limit=limit, over=middle, most=most)

    def note(self, text: str) -> None:
        """Adds a line below the table."""
        self._notes.append(text)

    @property
    def missed(self) -> int:
        """How many targets were missed."""
        return sum(row.met is False for row in self._rows)

    def __str__(self) -> str:
        rows = [HEADINGS, *(row.cells for row in self._rows)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        return "\n".join([self._title, "", *lines, *self._notes])

    def _add(
        self,
        what: str,
        measured: str,
        baseline: str,
        ratio: str,
        *,
        limit: str | None,
        over: float,
        most: float | None,
    ) -> None:
        met = over <= most if most is not None and self._judge else None
        mark = {True: "ok", False: "MISSED", None: ""}[met]
        target = "" if limit is None else f"<= {limit}"
        self._rows.append(_Row((what, measured, baseline, ratio, target, mark), met))


def seconds(work: Callable[[], Any]) -> float:
    """Returns how long a piece of work takes, with nothing left to write from what was before."""
    os.sync()
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def percentile(samples: Sequence[float], percent: int) -> float:
    """Returns the value that this share of the samples does not exceed."""
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]


def amount(value: float, unit: str) -> str:
    """Returns a number with its unit, with three digits that count."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f} {unit}"


def _median(samples: Sequence[float], unit: str) -> str:
    return amount(statistics.median(samples), unit)
