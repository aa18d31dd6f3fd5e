"""JSON an entry at a time, however it is cut, and whatever it is instead."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.engine.index import documents
from condastore.engine.index.documents import Broken, entries

SECTIONS = ("packages", "packages.conda")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, size: int = 1 << 20) -> list[tuple[str, Any]]:
    return list(entries(cut(data, size), SECTIONS))


@given(
    others=st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    packages=st.dictionaries(st.text(max_size=4), VALUES, max_size=4),
    size=st.integers(1, 40),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
)
def test_it_reads_what_json_reads(
    others: dict[str, Any],
    packages: dict[str, Any],
    size: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    whole = {**others, "packages": packages, "signatures": others}
    text = json.dumps(whole, indent=indent, ensure_ascii=ascii_only)
    assert read(text.encode(errors="surrogatepass"), size) == list(packages.items())


def test_both_sections_are_read_in_any_order_and_place() -> None:
    text = (
        b'{"packages.conda": {"b": 2}, "removed": ["x", "}"], "packages": {"a": 1, "b": 3}, "v": 1}'
    )
    assert read(text) == [("b", 2), ("a", 1), ("b", 3)]


def test_a_document_is_not_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither entries nor what is passed over gather in it."""
    monkeypatch.setattr(documents, "_LOW_CHARACTERS", 1000)
    longest = 0

    def pieces() -> Iterator[bytes]:
        nonlocal longest
        yield b'{"removed": ["x"'
        for _ in range(500):
            longest = max(longest, len(document._text))
            yield b',"' + b"y" * 998 + b'"'
        yield b'], "packages": {"0": 0'
        for number in range(500):
            longest = max(longest, len(document._text))
            yield b',"%d": "' % number + b"z" * 990 + b'"'
        yield b"}}"

    document = documents._Document(pieces())
    assert len(list(document.entries(SECTIONS))) == 501
    assert longest < 10_000


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"<html>", "not a JSON object"),
        (b"{}", "has no packages and no packages.conda"),
        (b'{"packages": []}', "has no packages"),
        (b'{"packages": {}', "not valid JSON"),
        (b'{"packages": {"a": {"b": 1}', "not valid JSON"),
        (b'{"packages": {"a": {"b": ', "ends too early"),
        (b'{"packages": {"a" 1}}', "not valid JSON"),
        (b'{"packages": {1: 1}}', "not valid JSON"),
        (b'{"packages": {"a": 1 "b": 2}}', "not valid JSON"),
        (b'{"packages": {"a": \xff}}', "not UTF-8"),
        (b'{"removed": ["' + b"x" * 100, "ends too early"),
        (b'{"removed": [[[[', "ends too early"),
        (b'{"packages": {"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deeply"),
        (b'{"packages": {"a": ' + b"9" * 10_000 + b"}}", "not valid JSON"),
        (b'{"packages": {"a": "' + b"x" * (6 << 20) + b'"}}', "beyond"),
    ],
)
def test_what_is_no_such_document_is_said_to_be_none(data: bytes, reason: str) -> None:
    with pytest.raises(Broken, match=reason):
        read(data, 1 << 16)


def test_depth_does_not_matter_where_nothing_is_read() -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    assert read(b'{"signatures": ' + deep + b', "packages": {"a": 1}}') == [("a", 1)]
