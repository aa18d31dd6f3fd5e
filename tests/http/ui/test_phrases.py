"""Numbers, times and failures in words."""

import pytest

from condastore.http.ui import phrases


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_400, "999 kB"),
        (999_960, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
        (10**19, "10000 PB"),
        (None, ""),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    assert phrases.size_text(size) == text


def test_growth() -> None:
    assert [phrases.growth_text(size) for size in (2_000_000, -500, 0)] == [
        "+2.0 MB",
        "\N{MINUS SIGN}500 bytes",
        "nothing",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (-1, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min 0 s"),
        (3600, "1 h 0 min"),
        (None, ""),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert phrases.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("reason", "part"),
    [
        ("Cannot solve the request because of: No candidates were found for x", "spelling"),
        ("Cannot solve: a conflicts with b", "Loosen a version"),
        ("Could not fetch the package list of channel http://x: Request failed", "reached"),
        ("there is no space left on the disk (No space left on device)", "Delete builds"),
        ("the solve took longer than conda_max_solve_time (300 s)", "exact versions"),
        ("pip could not install flask", "pip section"),
        ("something that nobody has thought of", "the log"),
    ],
)
def test_every_failure_has_a_next_step(reason: str, part: str) -> None:
    assert part.lower() in phrases.advice(reason).lower()


def test_the_first_sentence_of_a_reason() -> None:
    assert phrases.first_sentence("one\ntwo") == "one"
    assert phrases.first_sentence("x" * 500) == "x" * 399 + "…"


def test_a_log_without_colours() -> None:
    text = "a \x1b[31;1mred\x1b[0m \x1b]0;title\x07b \x1b]8;;http://x\x1b\\c\x1b(B \x1b"
    assert phrases.without_colours(text) == "a red b c(B "


def test_names() -> None:
    assert phrases.channel_text("https://conda.anaconda.org/conda-forge/") == "conda-forge"
    assert phrases.kernel_name("a b/ö$") == "a-b---"
    assert phrases.count_text(1, "build") == "1 build"
    assert phrases.count_text(1234, "build") == "1,234 builds"


def test_what_the_audit_log_notes_besides() -> None:
    text = phrases.details_text(
        {"to": "grace", "role_bindings": {"a/*": ["viewer", "admin"]}, "of": None, "before": 2}
    )
    assert text == "to grace, role bindings a/*: viewer and admin, before 2"
