"""Stored specifications as text, and the line where something is wrong."""

import pytest

from condastore import environment_yaml
from condastore.errors import InvalidSpecification
from condastore.http.ui.specification_text import Problem, line_of, problems_of, text_of


def test_a_specification_as_text_is_the_same_specification() -> None:
    text = (
        "name: web\ndescription: 'with: colon'\nchannels: [conda-forge]\n"
        "dependencies: ['python=3.10', {pip: [flask]}]\nvariables: {A: '1', B: 2}\n"
    )
    specification = environment_yaml.parse(text)
    again = environment_yaml.parse(text_of(specification.as_dict(), is_lockfile=False))
    assert again == specification


def test_a_lockfile_becomes_pins() -> None:
    stored = {
        "name": "locked",
        "description": "",
        "lockfile": {
            "metadata": {"channels": [{"url": "conda-forge"}]},
            "package": [
                {"name": "b", "version": "2", "manager": "conda", "platform": "linux-64"},
                {"name": "b", "version": "2", "manager": "conda", "platform": "osx-64"},
                {"name": "a", "version": "1", "manager": "pip", "platform": "linux-64"},
            ],
        },
    }
    specification = environment_yaml.parse(text_of(stored, is_lockfile=True))
    assert specification.match_specs == ["b=2"]
    assert specification.requirements == ["a==1"]
    assert specification.channels == ("conda-forge",)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name: x\nchannels: [a\n", Problem(3, "Did not find expected ',' or ']'")),
        ("name: x\nname: y\n", Problem(2, "The key 'name' appears twice")),
        (
            "name: 'a b'\n",
            Problem(1, "name: String should match pattern '^[A-Za-z0-9-+_@$&?^~.=]+$'"),
        ),
        ("dependencies: []\n", Problem(None, "name: Field required")),
        (
            "name: x\n\n# comment\ndependencies:\n- a\n- pip:\n  - b\n  - '!'\n",
            Problem(8, "dependencies: Invalid requirement"),
        ),
    ],
)
def test_problems_have_their_line(text: str, problem: Problem) -> None:
    with pytest.raises(InvalidSpecification) as caught:
        environment_yaml.parse(text)
    [found] = problems_of(str(caught.value), text)
    assert found.line == problem.line
    assert found.message.startswith(problem.message[:20])


def test_what_is_wrong_may_be_anywhere() -> None:
    assert line_of("a: [1, 2]", ("a", 7)) == 1
    assert line_of("]", ("a",)) is None
    assert line_of("", ("a",)) is None
    assert problems_of("storage is full", "") == [Problem(None, "storage is full")]
