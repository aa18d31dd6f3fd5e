import json

import pytest
import yaml

from condastore.environment_yaml import parse
from condastore.export import export_yaml, history_yaml, versions_yaml

RECORDS = [
    {"name": "python", "version": "3.11.7", "build": "h1_0"},
    {"name": "_libgcc_mutex", "version": "0.1", "build": "conda_forge"},
]
PIP = [{"name": "jinja2", "version": "3.1"}, {"name": "flask", "version": "3.0.0"}]


def test_everything_is_pinned_and_sorted() -> None:
    text = export_yaml("x", ["conda-forge"], RECORDS, PIP, prefix="/p", variables={"A": 1})
    assert text == (
        "name: x\n"
        "channels:\n"
        "- conda-forge\n"
        "dependencies:\n"
        "- _libgcc_mutex=0.1=conda_forge\n"
        "- python=3.11.7=h1_0\n"
        "- pip:\n"
        "  - flask==3.0.0\n"
        "  - jinja2==3.1\n"
        "variables:\n"
        "  A: '1'\n"
        "prefix: /p\n"
    )


def test_without_pip_and_variables_their_keys_are_absent() -> None:
    value = yaml.safe_load(export_yaml("x", [], RECORDS, [], prefix="/p"))
    assert sorted(value) == ["channels", "dependencies", "name", "prefix"]
    assert all(isinstance(entry, str) for entry in value["dependencies"])


def test_what_is_exported_can_be_posted() -> None:
    text = export_yaml("x", ["conda-forge"], RECORDS, PIP, prefix="/p" * 100, variables={"A": "no"})
    specification = parse(text)
    assert specification.match_specs[1] == "python=3.11.7=h1_0"
    assert specification.requirements == ["flask==3.0.0", "jinja2==3.1"]
    assert specification.variables == {"A": "no"}


def test_versions_are_without_builds_and_prefix() -> None:
    text = export_yaml("x", ["conda-forge"], RECORDS, PIP, prefix="/p", variables={"A": "1.10"})
    assert versions_yaml(text) == (
        "name: x\n"
        "channels:\n"
        "- conda-forge\n"
        "dependencies:\n"
        "- _libgcc_mutex=0.1\n"
        "- python=3.11.7\n"
        "- pip:\n"
        "  - flask==3.0.0\n"
        "  - jinja2==3.1\n"
        "variables:\n"
        "  A: '1.10'\n"
    )


@pytest.mark.parametrize("name", ["1.10", "1_000", "null", "x"])
def test_no_name_becomes_a_number(name: str) -> None:
    exported = export_yaml(name, [name], [], [], prefix="/p", variables={"A": name})
    assert yaml.safe_load(versions_yaml(exported)) == {
        "name": name,
        "channels": [name],
        "dependencies": [],
        "variables": {"A": name},
    }


ASKED = {
    "name": "x",
    "channels": ["conda-forge", "https://example.org/channel"],
    "dependencies": ["python >=3.11", {"pip": ["flask", "--index-url https://example.org/s"]}],
    "variables": {"A": "1"},
}


def test_history_is_what_was_asked_for() -> None:
    assert yaml.safe_load(history_yaml(parse(json.dumps(ASKED)))) == ASKED


def test_pip_blocks_become_one_at_the_end() -> None:
    asked = {**ASKED, "dependencies": [{"pip": ["a"]}, "python", {"pip": ["b"]}]}
    found = yaml.safe_load(history_yaml(parse(json.dumps(asked))))
    assert found["dependencies"] == ["python", {"pip": ["a", "b"]}]
