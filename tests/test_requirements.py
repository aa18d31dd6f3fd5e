import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.errors import InvalidSpecification
from condastore.requirements import check_requirement
from tests.patience import processor_time_below


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("Flask", "flask"),
        ("zope.interface>=5", "zope-interface"),
        ("a_b[extra1,extra2]~=1.0; python_version < '3.12'", "a-b"),
        ("x @ https://example.org/x-1.0-py3-none-any.whl", "x"),
        ("x @ git+https://example.org/x@main", "x"),
        ("--index-url https://example.org/simple", "--index-url https://example.org/simple"),
        ("--index-url=https://example.org/simple", "--index-url=https://example.org/simple"),
        ("--extra-index-url file:///srv/simple", "--extra-index-url file:///srv/simple"),
        ("--trusted-host example.org:8080", "--trusted-host example.org:8080"),
    ],
)
def test_an_entry_is_compared_by_its_project_or_as_a_whole(entry: str, name: str) -> None:
    assert check_requirement(entry) == name


@pytest.mark.parametrize(
    "entry",
    [
        "-r other.txt",
        "-e .",
        "--find-links https://example.org",
        "--index-url",
        "--index-url=",
        "--index-url https://a https://b",
        "--trusted-host a/b",
        "--index-url https://a\n--pre",
    ],
)
def test_other_options_are_refused(entry: str) -> None:
    with pytest.raises(InvalidSpecification) as caught:
        check_requirement(entry)
    assert str(caught.value) == (
        f"Invalid pip option '{entry}' supported options are"
        " ['--index-url', '--extra-index-url', '--trusted-host']"
    )


@pytest.mark.parametrize("entry", ["", "a b", "./local", "/srv/x.whl", "a==", "a\nb", "a>=1\n-e ."])
def test_what_is_no_requirement_is_refused(entry: str) -> None:
    with pytest.raises(InvalidSpecification) as caught:
        check_requirement(entry)
    assert str(caught.value) == (
        f'Invalid pypi package dependency "{entry}" ensure it follows peps'
        " https://peps.python.org/pep-0508/ and https://peps.python.org/pep-0440/"
    )


@pytest.mark.parametrize(
    "entry",
    [
        "x @ file:///etc/passwd",
        "--index-url ftp://example.org",
        "--index-url simple",
        "x @ ssh://h/x",
        "--index-url https:///simple",
        "--index-url https://[::1",
    ],
)
def test_urls_of_other_schemes_are_refused(entry: str) -> None:
    with pytest.raises(InvalidSpecification):
        check_requirement(entry)


@pytest.mark.parametrize(
    "entry",
    [
        "--index-url https://u:hunter2@example.org/simple",
        "x @ https://u:hunter2@example.org/x.whl",
        "--find-links https://u:hun=ter2@example.org",
        "--index-url=https://hunter2@example.org",
    ],
)
def test_I13_credentials_are_refused_and_not_repeated(entry: str) -> None:
    with pytest.raises(InvalidSpecification, match="channel_credentials") as caught:
        check_requirement(entry)
    assert "ter2" not in str(caught.value)


@given(st.text(max_size=60) | st.text("a1[](){}<>=!~;,.@:/'\" -\n", max_size=60))
def test_any_text_is_accepted_or_refused(text: str) -> None:
    try:
        assert "\n" not in check_requirement(text)
    except InvalidSpecification as error:
        assert str(error)


@pytest.mark.parametrize(
    "entry", ["a; " + "(" * 1900, "a" + "[" * 1900, "a" + " " * 1900 + ";", "a>" * 900, "a" * 5000]
)
def test_F64_no_entry_takes_long(entry: str) -> None:
    with processor_time_below(1), pytest.raises(InvalidSpecification):
        check_requirement(entry)
