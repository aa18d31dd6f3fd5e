import yaml

from condastore.environment_yaml import parse
from condastore.export import export_yaml

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
