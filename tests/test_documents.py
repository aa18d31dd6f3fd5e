import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from condastore.documents import INVALID, Limits, lines, load
from condastore.errors import InvalidSpecification

LIMITS = Limits(size_bytes=2**20, nodes=50_000)

_printable = st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | _printable,
    lambda inner: st.lists(inner) | st.dictionaries(_printable, inner),
    max_leaves=20,
)


def refusal(text: str, limits: Limits = LIMITS) -> str:
    """The message with which a text is refused."""
    with pytest.raises(InvalidSpecification) as caught:
        load(text, limits)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("# nothing", None),
        ("a: b", {"a": "b"}),
        ("{a: b}", {"a": "b"}),
        ('{"a": [1, null, true, "x"]}', {"a": [1, None, True, "x"]}),
        ("- 1\n- -5\n- 010\n- '1'\n- 1:30", [1, -5, "010", "1", "1:30"]),
        ("- yes\n- true\n- ~\n- null\n-", ["yes", True, None, None, None]),
        ("- 3.10\n- 2024-01-01\n- .inf", ["3.10", "2024-01-01", ".inf"]),
        ('{"a": 3.10, "b": NaN}', {"a": "3.10", "b": "NaN"}),
        ("1: a\nnull: b", {"1": "a", "null": "b"}),
        ("a: |\n  x\n  y\n", {"a": "x\ny\n"}),
        ("'<<': a", {"<<": "a"}),
        ('{"a": "\\ud83d\\ude00"}', {"a": "\U0001f600"}),
        ("\ufeffa: b", {"a": "b"}),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    assert load(text, LIMITS) == value


@given(_values)
def test_json_and_yaml_of_a_value_are_read_alike(value: Any) -> None:
    assert load(json.dumps([value]), LIMITS) == [value]
    assert load(yaml.safe_dump([value], allow_unicode=True), LIMITS) == [value]


@given(st.text() | st.text("[]{}:,-?&*!|>'\"% \n\ta<#", max_size=60))
def test_any_text_is_a_value_or_refused(text: str) -> None:
    try:
        load(text, LIMITS)
    except InvalidSpecification as error:
        assert str(error).startswith(INVALID)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x b", "anchors"),
        ("a: *x", "aliases"),
        ("<<: {a: b}", "merge keys"),
        ("a: !!python/object:os.system b", "tags"),
        ("a: !x b", "tags"),
        ("a: 1\na: 2", "'a' appears twice"),
        ('{"a": 1, "a": 2}', "appears twice"),
        ("? [a]\n: b", "key should be a text"),
        ("a\n---\nb", "more than one document"),
        ("a: [", "line 2, column 1"),
        ('a: "\\0"', "control characters"),
        ('{"a\\u0000": 1}', "control characters"),
        ('{"a": "\\ud800"}', "control characters"),
        ("a: \x07", "not allowed"),
        ("a: \ud800", "not allowed"),
    ],
)
def test_F62_what_is_dangerous_is_refused_with_its_reason(text: str, why: str) -> None:
    first, second = refusal(text).split("\n")
    assert first == "Unable to parse. Invalid YAML"
    assert why in second


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000 + "]" * 5000,
        "[" * 100_000,
        '{"a":' * 5000 + "1" + "}" * 5000,
        "- " * 5000 + "a",
        "a: {" * 5000,
        "[" * 40 + "]" * 40,
    ],
)
def test_F62_deep_nesting_is_refused(text: str) -> None:
    assert "nested too deeply" in refusal(text)


@pytest.mark.parametrize("text", ["- a\n" * 60_000, "[" + "1," * 60_000 + "1]"])
def test_F62_too_many_values_are_refused(text: str) -> None:
    assert "too many values" in refusal(text)


@pytest.mark.parametrize("text", ["a" * 11, "\u00e9" * 6])
def test_the_size_is_counted_in_bytes(text: str) -> None:
    assert refusal(text, Limits(10, 10)) == "The specification is larger than 10 bytes"


def test_F62_an_alias_bomb_is_refused_before_it_can_grow() -> None:
    bomb = "a: &a [x, x]\n" + "".join(
        f"{new}: &{new} [*{old}, *{old}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert "anchors" in refusal(bomb)


def test_F63_huge_numbers_stay_texts() -> None:
    digits = "9" * 5000
    assert load(f"[{digits}]", LIMITS) == [digits]
    assert load(f"- {digits}", LIMITS) == [digits]
    assert load("- " + "1:" * 1000 + "1", LIMITS) == ["1:" * 1000 + "1"]


def test_lines_come_without_their_ends() -> None:
    assert list(lines(" a\r\n\nb", Limits(100, 3))) == ["a", "", "b"]


@pytest.mark.parametrize(
    ("text", "why"), [("a\n" * 4, "more than 3 lines"), ("a" * 200, "larger"), ("\x1b", "control")]
)
def test_lines_have_limits(text: str, why: str) -> None:
    with pytest.raises(InvalidSpecification, match=why):
        list(lines(text, Limits(100, 3)))
