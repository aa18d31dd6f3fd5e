import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from condastore.environment_yaml import Limits, from_value, parse
from condastore.errors import InvalidSpecification
from condastore.specification import CondaSpecification, PipBlock
from tests.patience import processor_time_below

EVERYTHING = """
name: simple
channels: [conda-forge, nodefaults]
dependencies:
- python >=3.11
- conda-forge::numpy
- pip:
  - flask
  - --index-url https://example.org/simple
description: hello
prefix: null
variables: {A: 1, B: two, C: 1.50}
unknown: dropped
"""


def refusal(text: str, limits: Limits | None = None) -> list[str]:
    """The lines of the message with which a text is refused."""
    with pytest.raises(InvalidSpecification) as caught:
        parse(text, limits or Limits())
    return str(caught.value).split("\n")


def test_every_field_is_read() -> None:
    assert parse(EVERYTHING) == CondaSpecification(
        name="simple",  # type: ignore[arg-type]
        channels=("conda-forge", "nodefaults"),
        dependencies=(
            "python >=3.11",
            "conda-forge::numpy",
            PipBlock(("flask", "--index-url https://example.org/simple")),
        ),
        description="hello",
        prefix=None,
        variables={"A": 1, "B": "two", "C": "1.50"},
    )


def test_a_name_is_enough() -> None:
    assert parse("name: x").as_dict() == {
        "channels": [],
        "dependencies": [],
        "description": "",
        "name": "x",
        "prefix": None,
        "variables": None,
    }


def test_json_is_accepted() -> None:
    assert parse('{"name": "x", "channels": []}').name == "x"


@pytest.mark.parametrize("text", ["variables: []", "variables: {}"])
def test_no_variables_may_be_a_list(text: str) -> None:
    assert parse(f"name: x\n{text}").variables == {}


def test_a_null_description_stays_null() -> None:
    assert parse("name: x\ndescription: null").description is None


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("channels: []", "Field required (type=missing, loc=('name',))"),
        ("name: null", "Input should be a valid string (type=string_type, loc=('name',))"),
        ("name: 12", "Input should be a valid string (type=string_type, loc=('name',))"),
        (
            "name: a b",
            "String should match pattern '^[A-Za-z0-9-+_@$&?^~.=]+$'"
            " (type=string_pattern_mismatch, loc=('name',))",
        ),
        (
            "",
            "Input should be a valid dictionary or object to extract fields from"
            " (type=model_attributes_type, loc=())",
        ),
        (
            "- name",
            "Input should be a valid dictionary or object to extract fields from"
            " (type=model_attributes_type, loc=())",
        ),
        (
            "name: x\nchannels: [null]",
            "Input should be a valid string (type=string_type, loc=('channels', 0))",
        ),
        (
            "name: x\nchannels: a",
            "Input should be a valid list (type=list_type, loc=('channels',))",
        ),
        (
            "name: x\ndependencies: null",
            "Input should be a valid list (type=list_type, loc=('dependencies',))",
        ),
        (
            "name: x\ndependencies: [{pip: flask}]",
            "Input should be a valid list (type=list_type, loc=('dependencies', 0, 'pip'))",
        ),
        (
            "name: x\nvariables: [a]",
            "Input should be a valid dictionary (type=dict_type, loc=('variables',))",
        ),
        (
            "name: x\ndescription: 1",
            "Input should be a valid string (type=string_type, loc=('description',))",
        ),
    ],
)
def test_a_wrong_type_is_one_line(text: str, line: str) -> None:
    assert refusal(text) == [line]


@pytest.mark.parametrize(
    ("text", "begin", "place"),
    [
        (
            "dependencies: [numpy, 'numpy=']",
            "Value error, Invalid conda package dependency specification numpy=",
            "('dependencies', 1)",
        ),
        (
            "dependencies: [{pip: [--pre]}]",
            "Value error, Invalid pip option '--pre' supported options are"
            " ['--index-url', '--extra-index-url', '--trusted-host']",
            "('dependencies', 0, 'pip', 0)",
        ),
        (
            "dependencies: [{pip: [a b]}]",
            'Value error, Invalid pypi package dependency "a b" ensure it follows peps'
            " https://peps.python.org/pep-0508/ and https://peps.python.org/pep-0440/",
            "('dependencies', 0, 'pip', 0)",
        ),
        ("channels: [../x]", "Value error, Channel", "('channels', 0)"),
        ("dependencies: [{python: 3.1}]", "Input should be a valid string", "('dependencies', 0)"),
        ("variables: {A: true}", "Input should be a valid string or integer", "('variables', 'A')"),
        ("variables: {'A;B': x}", "Value error, a variable's name", "('variables', 'A;B')"),
        ("name: .x", "Value error, Name", "('name',)"),
    ],
)
def test_a_wrong_value_is_one_line_with_its_place(text: str, begin: str, place: str) -> None:
    prefix = "" if text.startswith("name") else "name: x\n"
    (line,) = refusal(prefix + text)
    assert line.startswith(begin)
    assert line.endswith(f", loc={place})")


def test_all_problems_are_reported_at_once() -> None:
    lines = refusal("channels: [null]\ndependencies: ['a=', {pip: ['-x']}]\nvariables: {A: []}")
    assert [line.rpartition("loc=")[2] for line in lines] == [
        "('channels', 0))",
        "('dependencies', 0))",
        "('dependencies', 1, 'pip', 0))",
        "('name',))",
        "('variables', 'A'))",
    ]


def test_only_the_first_hundred_problems_are_reported() -> None:
    lines = refusal("name: x\ndependencies:\n" + "- a=\n" * 150)
    assert len(lines) == 101
    assert lines[-1] == "... and 50 more"


def test_broken_yaml_has_its_own_message() -> None:
    assert refusal("name: [")[0] == "Unable to parse. Invalid YAML"


def test_I13_no_credential_is_repeated() -> None:
    url = "https://user:hunter2@example.org/x"
    lines = refusal(
        f"name: x\nchannels: ['{url}']\ndependencies: ['{url}::numpy', '{url}::a b c d',"
        f" 'numpy {url}', {{pip: ['--index-url {url}', 'x @ {url}', '{url}']}}]"
    )
    assert len(lines) == 7
    assert not [line for line in lines if "hunter2" in line]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("channels: [a, b, c]", Limits(channels=2)),
        ("dependencies: [a, b, c]", Limits(dependencies=2)),
        ("dependencies: [{pip: [a, b]}, {pip: [c]}]", Limits(dependencies=2)),
        ("variables: {A: a, B: b, C: c}", Limits(variables=2)),
        ("variables: {A: abc}", Limits(text_length=2)),
        ("description: abc", Limits(text_length=2)),
        ("description: abc", Limits(size_bytes=10)),
        ("channels: [a, b, c]", Limits(nodes=5)),
    ],
)
def test_limits_are_kept(text: str, limits: Limits) -> None:
    parse(f"name: x\n{text}")
    assert len(refusal(f"name: x\n{text}", limits)) <= 2


@pytest.mark.parametrize(
    "text",
    [
        "dependencies:\n" + "- a\n" * 100_000,
        "channels:\n" + "- a\n" * 10_000,
        "dependencies:\n" + "- 'a=" + "1" * 900 + ";'\n" * 1000,
        "variables:\n" + "  ? a\n" * 9000,
    ],
)
def test_F64_a_huge_specification_is_refused_quickly(text: str) -> None:
    with processor_time_below(4):
        refusal("name: x\n" + text)


_texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)
_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=10,
)
_fields = st.sampled_from(["name", "channels", "dependencies", "description", "variables", "pip"])


@given(_anything | st.dictionaries(_fields, _anything))
def test_any_value_is_a_specification_or_refused(value: Any) -> None:
    try:
        specification = from_value(value)
    except InvalidSpecification as error:
        assert all("(type=" in line for line in str(error).split("\n") if line)
    else:
        assert from_value(specification.as_dict()) == specification


_names = st.from_regex("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
_specifications = st.fixed_dictionaries(
    {"name": _names},
    optional={
        "channels": st.lists(_names),
        "dependencies": st.lists(_names | st.fixed_dictionaries({"pip": st.just(["flask"])})),
        "description": _texts,
        "variables": st.dictionaries(
            st.from_regex("[A-Z_]{1,9}", fullmatch=True), _texts | st.integers(-(10**9), 10**9)
        ),
    },
)


@given(_specifications)
def test_the_stored_form_and_its_texts_are_read_back(value: dict[str, Any]) -> None:
    specification = from_value(value)
    stored = specification.as_dict()
    assert parse(json.dumps(stored)) == specification
    assert parse(yaml.safe_dump(stored, allow_unicode=True)) == specification
