"""What is written is what every reader reads."""

from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from condastore.documents import Limits, load
from condastore.yaml_text import dump, scalar

LIMITS = Limits(2**20, 100_000)

_texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
_texts |= st.from_regex(r"\A[a-z0-9:/#=<> .~+*!&@,-]{0,12}\Z")
_words = st.sampled_from(
    ["null", "No", "~", "1", "1.0", "1e5", "0x1", "12:30", "<<", "=", "2001-1-1"]
)
_scalars = st.none() | st.booleans() | st.integers(-(10**15), 10**15) | _texts | _words
_values = st.recursive(
    _scalars,
    lambda members: (
        st.lists(members, max_size=3) | st.dictionaries(_texts | _words, members, max_size=3)
    ),
    max_leaves=12,
)


@given(_values)
@example({"x" * 2000: {"x" * 2000: [[]]}, "y": [[["a", {}], {"b": [1]}]]})
@example(["\x85\u2028\ufeff\x7f\n\t\r\ud7ff\ue000\U0001f600"])
@example(["a: b", "a #b", "a:", "- a", "http://x:1/y#z", " a", "a ", "a\nb", "python >=3.8"])
def test_every_reader_reads_what_was_written(value: Any) -> None:
    text = dump(value)
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(text, Loader=loader) == value


@given(_values)
def test_it_can_be_posted(value: Any) -> None:
    text = dump({"a": value})
    if not any(ord(character) == 0x7F for character in text):
        assert load(text, LIMITS) == {"a": value}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("python >=3.11,<3.12.0a0", "python >=3.11,<3.12.0a0"),
        ("https://example.org/a-1!2.conda", "https://example.org/a-1!2.conda"),
        ("1.0", '"1.0"'),
        ("yes", '"yes"'),
        ("", '""'),
        ("*", '"*"'),
    ],
)
def test_only_what_needs_quotes_has_them(text: str, written: str) -> None:
    assert scalar(text) == written


def test_it_looks_as_people_write_it() -> None:
    value = {"version": 6, "channels": [{"url": "https://x/"}], "packages": {"linux-64": []}}
    assert dump(value) == ("version: 6\nchannels:\n- url: https://x/\npackages:\n  linux-64: []\n")
