"""What the daemon measures of itself, for Prometheus."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily

LATENCY_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
PHASE_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
LAG_INTERVAL_S = 5.0


@dataclass(frozen=True)
class Reading:
    """A value that is read when somebody asks: one number, or one by labels."""

    name: str
    help: str
    rows: Mapping[tuple[str, ...], float]
    labels: Sequence[str] = ()


class _Readings:
    """Readings as Prometheus' library takes them."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterator[Any]:
        """Yields them."""
        for reading in self._readings:
            family = GaugeMetricFamily(reading.name, reading.help, labels=reading.labels)
            for labels, value in reading.rows.items():
                family.add_metric(labels, value)
            yield family


class Metrics:
    """Counts of one daemon, in a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "condastore_http_request_duration_seconds",
            "Time until an answer begins, by route and class of status.",
            ["method", "route", "status"],
            buckets=LATENCY_S,
            registry=self._registry,
        )
        self._counted: dict[tuple[str, str, int], Histogram] = {}
        self._phases = Histogram(
            "condastore_build_phase_duration_seconds",
            "Time that a phase of a build took.",
            ["phase"],
            buckets=PHASE_S,
            registry=self._registry,
        )
        self._builds = Counter(
            "condastore_builds_ended",
            "Builds that ended in this daemon, by status.",
            ["status"],
            registry=self._registry,
        )
        self._readers = Gauge(
            "condastore_log_websockets",
            "Open websockets that read a log.",
            registry=self._registry,
        )
        self._lag = Gauge(
            "condastore_event_loop_lag_seconds",
            "How much later than due the event loop woke last.",
            registry=self._registry,
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts an answer; `route` is the template of a path, never a path."""
        key = method, route, status // 100
        counted = self._counted.get(key)
        if counted is None:
            counted = self._requests.labels(method, route, f"{status // 100}xx")
            self._counted[key] = counted
        counted.observe(seconds)

    def phase_ended(self, phase: str, seconds: float) -> None:
        """Counts a phase of a build."""
        self._phases.labels(phase).observe(seconds)

    def build_ended(self, status: str) -> None:
        """Counts a build that ended."""
        self._builds.labels(status.lower()).inc()

    @contextmanager
    def log_websocket(self) -> Iterator[None]:
        """Counts a reader of a log for as long as it is there."""
        with self._readers.track_inprogress():
            yield

    async def watch_loop(self) -> None:
        """Measures how late the event loop is, for ever."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(LAG_INTERVAL_S)
            self._lag.set(max(0.0, time.monotonic() - began - LAG_INTERVAL_S))

    def text(self, readings: Sequence[Reading]) -> bytes:
        """Returns readings and counts in Prometheus' text format."""
        registry = CollectorRegistry()
        registry.register(_Readings(readings))
        return generate_latest(registry) + generate_latest(self._registry)
