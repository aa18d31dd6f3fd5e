"""Names that say what is in an image, and the match specs that they stand for."""

import re
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.dynamic_images import (
    OPERATORS,
    environment_name,
    is_environment_name,
    match_spec,
    match_specs,
    parse_cutoff,
)
from condastore.errors import InvalidInput
from condastore.matchspecs import check_match_spec
from condastore.names import check_name
from condastore.oci import is_repository

NAMES = st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True).filter(
    lambda name: not re.search(rf"\.(?:{'|'.join(OPERATORS)})(?:\.|$)", name)
)
VERSIONS = st.from_regex(r"[0-9]{1,4}(?:\.[0-9]{1,4}){0,3}", fullmatch=True)
CONSTRAINTS = st.lists(st.tuples(st.sampled_from(sorted(OPERATORS)), VERSIONS), max_size=3)


@pytest.mark.parametrize(
    ("component", "expected"),
    [
        ("numpy", "numpy"),
        ("python.ge.3.11", "python >=3.11"),
        ("python.ge.3.11.lt.3.14", "python >=3.11,<3.14"),
        ("python.v.3.11", "python =3.11"),
        ("python.eq.3.11.4", "python ==3.11.4"),
        ("python.ne.3.11.0.gt.3.10.le.4", "python !=3.11.0,>3.10,<=4"),
        ("ruamel.yaml", "ruamel.yaml"),
        ("ruamel.yaml.ge.0.18", "ruamel.yaml >=0.18"),
        ("backports.zoneinfo.eq.0.2.1", "backports.zoneinfo ==0.2.1"),
        ("typing-extensions", "typing-extensions"),
        ("r-base.v.4.3", "r-base =4.3"),
        ("scikit_learn", "scikit_learn"),
        ("x.eq.1.0rc1", "x ==1.0rc1"),
        ("v.ge.1", "v >=1"),
        ("eq", "eq"),
        # Only between two dots is it an operator.
        ("python.ge", "python.ge"),
    ],
)
def test_components(component: str, expected: str) -> None:
    assert is_repository(component)
    assert match_spec(component) == expected


@pytest.mark.parametrize(
    "component",
    [
        "x.conda",
        "x.tar.bz2",
        "x.ge.1.conda",
        "",
        "X",
        "a b",
        "a=1",
        "_x*",
        "a::b",
        "http://x/y",
        "-x",
    ],
)
def test_what_is_no_component(component: str) -> None:
    with pytest.raises(InvalidInput, match="should be a package"):
        match_spec(component)


@given(NAMES, CONSTRAINTS)
def test_every_name_and_version_can_be_said(name: str, constraints: list[tuple[str, str]]) -> None:
    if name.endswith((".conda", ".tar.bz2")):
        return
    component = ".".join([name, *(part for pair in constraints for part in pair)])
    spec = match_spec(component)
    assert check_match_spec(spec) == name
    versions = ",".join(OPERATORS[operator] + version for operator, version in constraints)
    assert spec == f"{name} {versions}".rstrip()


@given(st.from_regex(r"[a-z0-9._/-]{1,40}", fullmatch=True).filter(is_repository))
def test_what_passes_is_a_match_spec(name: str) -> None:
    try:
        specs = match_specs(name.split("/"))
    except InvalidInput:
        return
    for spec in specs:
        check_match_spec(spec)


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.randoms())
def test_the_order_means_nothing(names: list[str], random: object) -> None:
    names = [name for name in names if not name.endswith((".conda", ".tar.bz2"))]
    shuffled = [*names, *names[:1]]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert match_specs(names) == match_specs(shuffled)
    assert environment_name(match_specs(names)) == environment_name(match_specs(shuffled))


def test_names_of_environments() -> None:
    specs = match_specs(["numpy", "python.ge.3.11"])
    name = environment_name(specs)
    dated = environment_name(specs, date(2026, 1, 31))
    assert dated == f"{name}-before-2026-01-31"
    assert name != environment_name(match_specs(["numpy"]))
    for text in (name, dated):
        assert check_name(text) == text
        assert is_repository(f"x/{text}")
        assert is_environment_name(text)
    for other in ("numpy", "on-demand", name[:-1], f"{name}-before-x", f"x{name}"):
        assert not is_environment_name(other)


def test_cutoffs() -> None:
    assert parse_cutoff("before-2026-01-31") == date(2026, 1, 31)
    today = datetime.now(UTC).date()
    assert parse_cutoff(f"before-{today.isoformat()}") == today
    assert parse_cutoff("latest") is None
    assert parse_cutoff("2026-01-31") is None
    future = today + timedelta(days=2)
    for tag in (
        "before-",
        "before-x",
        "before-2026-1-1",
        "before-2026-02-30",
        "before-0000-00-00",
        f"before-{future.isoformat()}",
    ):
        with pytest.raises(InvalidInput, match="before"):
            parse_cutoff(tag)
