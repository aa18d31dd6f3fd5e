"""What readers of a build's log get of its children's events."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from condastore.builders.process import Event
from condastore.builders.reporter import Reporter
from condastore.streams import BuildLog, Happened


@pytest.fixture
def log(tmp_path: Path) -> Iterator[BuildLog]:
    with ThreadPoolExecutor(1) as executor:
        yield BuildLog(tmp_path / "build.log", 1000, executor)


async def ended(log: BuildLog) -> list[Event]:
    await log.end("COMPLETED")
    return [p.event async for p in log.follow(0) if isinstance(p, Happened)]


async def test_every_line_says_from_which_step_it_is(log: BuildLog) -> None:
    reporter = Reporter(log)
    reporter.line("starting")
    await reporter.event({"t": "log", "step": "solve", "text": "one\ntwo\n\n"})
    await reporter.event({"t": "log", "text": "no step"})
    await reporter.event({"t": "log", "step": "", "text": ""})
    await ended(log)
    assert log.path.read_text() == "starting\nsolve: one\nsolve: two\nno step\n\n"


async def test_nothing_in_the_log_moves_a_terminal(log: BuildLog) -> None:
    reporter = Reporter(log)
    await reporter.event({"t": "log", "step": "pip", "text": "\x1b[31mred\x1b[0m\n9%\r10%\x07"})
    await ended(log)
    assert log.path.read_text() == "pip: red\npip: 10%\n"


async def test_progress_says_how_long_it_will_take(
    log: BuildLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reporter = Reporter(log)
    now[0] += 1.5
    await reporter.event({"t": "phase", "phase": "fetch"})
    now[0] += 2
    event = {"phase": "fetch", "done": 1, "total": 10, "bytes": 25, "bytes_total": 100}
    await reporter.event({"t": "progress", **event})
    phase, progress = await ended(log)
    assert phase == {"event": "phase", "phase": "fetch", "after_s": 1.5}
    assert progress == {"event": "progress", **event, "eta_s": 6.0}


@pytest.mark.parametrize(
    ("event", "eta_s"),
    [
        ({"done": 0, "total": 10, "bytes": 0, "bytes_total": 0}, None),
        ({"done": 0, "total": 10, "bytes": 0, "bytes_total": 100}, None),
        ({"done": 5, "total": 10, "bytes": 0, "bytes_total": 0}, 4.0),
        ({"done": 10, "total": 10, "bytes": 0, "bytes_total": 0}, 0.0),
    ],
)
async def test_a_time_is_only_told_when_there_is_one(
    log: BuildLog, monkeypatch: pytest.MonkeyPatch, event: Event, eta_s: float | None
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    reporter = Reporter(log)
    now[0] += 4
    await reporter.event({"t": "progress", "phase": "link", **event})
    [progress] = await ended(log)
    assert progress["eta_s"] == eta_s


async def test_what_the_daemon_says_is_in_a_full_log_too(log: BuildLog) -> None:
    reporter = Reporter(log)
    await reporter.event({"t": "log", "text": "x" * 2000})
    reporter.line("build failed: too much to say")
    await ended(log)
    assert log.path.read_text().endswith("left out]\nbuild failed: too much to say\n")


async def test_phases_are_kept_with_their_times(
    log: BuildLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, measured = [100.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    phases: list[dict[str, Any]] = []
    reporter = Reporter(log, lambda phase, seconds: measured.append((phase, seconds)), phases)
    for phase in ("solve", "fetch"):
        reporter.phase(phase)
        now[0] += 2.5
    reporter.end_phase(is_whole=False)
    assert phases == [{"phase": "solve", "seconds": 2.5}, {"phase": "fetch", "seconds": 2.5}]
    assert measured == [("solve", 2.5)]


async def test_F25_the_operator_reads_of_a_package_that_was_damaged(
    log: BuildLog, caplog: pytest.LogCaptureFixture
) -> None:
    files = [{"path": "info/paths.json", "problem": "can't be read: Input/output error"}]
    event = {"t": "damaged", "sha256": "aa", "name": "flask 3.0", "files": files, "count": 1}
    await Reporter(log).event(event)
    assert await ended(log) == []
    assert caplog.messages == [
        "package flask 3.0 was damaged in the store: info/paths.json can't be read: "
        "Input/output error"
    ]
