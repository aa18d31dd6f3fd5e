"""Ranges, validators and file names (RFC 9110, RFC 6266)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.http.bytes import Span, Unsatisfiable, disposition, is_listed, parse_range


@pytest.mark.parametrize(
    ("header", "size", "expected"),
    [
        ("bytes=500-1499", 2000, Span(500, 1000)),
        ("bytes=500-", 2000, Span(500, 1500)),
        ("bytes=-500", 2000, Span(1500, 500)),
        ("bytes=500-99999", 2000, Span(500, 1500)),
        ("bytes=-99999", 2000, Span(0, 2000)),
        ("bytes=0-0", 2000, Span(0, 1)),
        ("bytes=1999-", 2000, Span(1999, 1)),
        (" Bytes= 1-2 ", 2000, Span(1, 2)),
        # What a server may take for the whole.
        (None, 2000, None),
        ("", 2000, None),
        ("bytes=0-1,3-4", 2000, None),
        ("lines=1-2", 2000, None),
        ("bytes=-", 2000, None),
        ("bytes=a-b", 2000, None),
        ("bytes=1.5-2", 2000, None),
        ("bytes=٣-٤", 2000, None),
        ("bytes=" + "9" * 5000 + "-", 2000, None),
    ],
)
def test_ranges(header: str | None, size: int, expected: Span | None) -> None:
    assert parse_range(header, size) == expected


@pytest.mark.parametrize(
    ("header", "size"),
    [("bytes=500-0", 2000), ("bytes=2000-", 2000), ("bytes=-0", 2000), ("bytes=0-", 0)],
)
def test_ranges_that_hold_nothing(header: str, size: int) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


@given(st.text(), st.integers(0, 10**6))
def test_no_header_is_an_error(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            span = parse_range(header, size)
        except Unsatisfiable:
            continue
        assert span is None or 0 <= span.start < span.start + span.length <= size


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_range_is_what_slicing_gives(first: int, last: int, size: int) -> None:
    data = range(size)[first : last + 1]
    try:
        span = parse_range(f"bytes={first}-{last}", size)
    except Unsatisfiable:
        assert len(data) == 0
    else:
        assert span is not None
        assert range(span.start, span.start + span.length) == data


def test_a_range_as_the_header_says_it() -> None:
    assert Span(500, 1000).of(2000) == "bytes 500-1499/2000"


@pytest.mark.parametrize(
    ("header", "listed"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ("", False),
        (None, False),
    ],
)
def test_tags_that_a_client_has(header: str | None, listed: bool) -> None:
    assert is_listed("a", header) is listed


def test_names_of_files() -> None:
    assert disposition("env-1.tar.gz") == 'attachment; filename="env-1.tar.gz"'
    hostile = disposition('a";\r\nSet-Cookie: x=\\é')
    assert hostile.startswith('attachment; filename="a____Set-Cookie__x=__"; filename*=UTF-8')
    assert "\r" not in hostile and "\n" not in hostile and "\\" not in hostile
    assert hostile.endswith("a%22%3B%0D%0ASet-Cookie%3A%20x%3D%5C%C3%A9")


@given(st.text())
def test_a_name_is_never_more_than_a_name(name: str) -> None:
    text = disposition(name)
    plain = text.removeprefix('attachment; filename="')
    assert '"' not in plain.split('"', 1)[0]
    text.encode("latin-1")
    assert text.isprintable()
