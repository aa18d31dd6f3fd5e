import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.errors import InvalidInput
from condastore.names import NAME_PATTERN, check_name, set_text, shorten


@pytest.mark.parametrize(
    "name", ["a", "data-science", "A_b@c$d&e?f^g~h.i=j+k", "_x", "9", "a" * 255]
)
def test_allowed_names_stay_as_they_are(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "-rf",
        "a b",
        "a/b",
        "a*",
        "a:b",
        "a#b",
        "a%2e",
        "a\x00",
        "a\n",
        "a" * 256,
        "\u202egpj",
        "\uff41",
        "\u00e9",
    ],
)
def test_F66_names_that_could_be_something_else_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        check_name(name)


def test_the_message_holds_the_pattern_and_is_short() -> None:
    with pytest.raises(InvalidInput) as caught:
        check_name("x y" * 10_000)
    assert NAME_PATTERN in str(caught.value)
    assert len(str(caught.value)) < 250


@given(st.text())
def test_a_checked_name_is_one_plain_path_component(text: str) -> None:
    try:
        name = check_name(text)
    except InvalidInput:
        return
    assert name.isascii()
    assert name.isprintable()
    assert not {"/", "\\", " "} & set(name)
    assert name[0] not in ".-"


def test_sets_are_shown_in_a_fixed_order() -> None:
    assert set_text({"b", "a"}) == "{'a', 'b'}"


def test_only_long_texts_are_shortened() -> None:
    assert shorten("abc", 3) == "abc"
    assert shorten("abcdef", 5) == "ab..."
