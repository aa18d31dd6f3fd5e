"""What is written is what every reader reads."""

from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from condastore.documents import Limits, load
from condastore.yaml_text import dump

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
@example(["a: b", "a #b", "a:", "- a", "http://x:1/y#z", " a", "a ", "a\nb", "python >=3.8"])
@example([{"name": f"package-{number}", "dependencies": {}} for number in range(50)])
def test_every_reader_reads_what_was_written(value: Any) -> None:
    text = dump({"version": 1, "package": value})
    for loader in (yaml.SafeLoader, yaml.CSafeLoader):
        assert yaml.load(text, Loader=loader) == {"version": 1, "package": value}
    assert load(text, LIMITS) == {"version": 1, "package": value}


def test_what_occurs_twice_is_written_twice() -> None:
    shared = {"url": "x"}
    assert dump({"a": [shared, shared]}) == "a:\n- url: x\n- url: x\n"


def test_it_looks_as_people_write_it() -> None:
    value = {"version": 6, "channels": [{"url": "https://x/"}], "packages": {"linux-64": []}}
    assert dump(value) == ("version: 6\nchannels:\n- url: https://x/\npackages:\n  linux-64: []\n")
