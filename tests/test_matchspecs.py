import pytest
from hypothesis import given
from hypothesis import strategies as st

from condastore.errors import InvalidSpecification
from condastore.matchspecs import check_match_spec
from tests.patience import processor_time_below

MD5 = "d7c89558ba9fa0495403155b64376d81"

ACCEPTED = [
    "numpy",
    "Numpy",
    "_libgcc_mutex",
    "__glibc >=2.17",
    "a.b-c_d",
    "numpy=1.2",
    "numpy==1.2",
    "numpy = 1.2",
    "numpy=1.2=py*",
    "numpy==1.2=py_0",
    "numpy 1.2.*",
    "numpy 1.2.* py_0",
    "numpy 1.2*",
    "numpy *",
    "numpy=*=*_cpython",
    "numpy * *_cpython",
    "numpy>=1,<2|3",
    "numpy >= 1, < 2",
    "numpy >=1.0.0a0,<2.0a0",
    "numpy (>=1,<2)|3",
    "numpy ~=1.2",
    "numpy !=1.2",
    "numpy 1!2.0+3",
    "numpy 2024a",
    "numpy  ",
    "numpy\t1.2",
    "numpy[version='>=1']",
    'numpy[version=">=1,<2", build=py*]',
    "numpy >=1 [build=py*]",
    f"numpy=1.2=py_0[md5={MD5}]",
    f"numpy[sha256={MD5 * 2}]",
    "numpy[build_number='>=1']",
    "numpy[subdir=linux-64,license=MIT]",
    "numpy[]",
    "conda-forge::numpy",
    "conda-forge/linux-64::numpy>=1",
    "https://example.org/channel::numpy",
    "file:///srv/channel/noarch::numpy=1",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_conda_accepts_is_accepted(text: str) -> None:
    assert check_match_spec(text)


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_is_accepted_the_solver_understands(text: str) -> None:
    rattler = pytest.importorskip("rattler")
    rattler.MatchSpec(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [("Numpy>=1", "numpy"), ("conda-forge::_x[build=a]", "_x"), ("  python 3 ", "python")],
)
def test_the_name_is_returned_in_lower_case(text: str, name: str) -> None:
    assert check_match_spec(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "numpy=",
        "numpy==",
        "numpy >=1.20,",
        "numpy ,1",
        "numpy >1|",
        "numpy <",
        "numpy -1",
        "numpy 1.",
        "numpy 1..2",
        "numpy .1",
        "numpy _1",
        "numpy ===1",
        "numpy 1.2 py_0 x",
        "numpy (1.2",
        "numpy 1;2",
        "numpy\n1",
        "numpy\n",
        "a\n::numpy",
        "-numpy",
        ".numpy",
        "x;y",
        "a:b:numpy",
        "nump\u00fd",
        "numpy[version=]",
        "numpy[foo=1]",
        "numpy[md5=xyz]",
        "numpy[version='>=1'",
        "numpy[a] b",
        "numpy[version='1' build='a']",
        "numpy[subdir=moon-64]",
        "numpy[version='>=1,']",
        "::numpy",
        "a b::numpy",
        "ftp://example.org/a::numpy",
        "a::b::c",
        "numpy " + "1" * 1000,
    ],
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecification):
        check_match_spec(text)


@pytest.mark.parametrize(
    "text",
    [
        "@feature",
        "*[track_features=a]",
        "num*",
        "num*>=1",
        "numpy[track_features=a]",
        "numpy[features=a]",
        "/srv/numpy-1-0.conda",
        "./numpy",
        "~/numpy",
        "file:numpy",
        "https://example.org/c/linux-64/numpy-1-0.conda",
        "numpy-1-0.tar.bz2",
        "C:\\numpy.conda",
        "numpy[url=https://example.org/x.conda]",
        "numpy[fn=x.conda]",
        "numpy ^1.*$",
    ],
)
def test_what_no_engine_supports_is_refused_with_that_reason(text: str) -> None:
    with pytest.raises(InvalidSpecification, match="not supported"):
        check_match_spec(text)


def test_a_channel_in_brackets_is_refused_with_advice() -> None:
    with pytest.raises(InvalidSpecification, match="conda-forge::numpy"):
        check_match_spec("numpy[channel=conda-forge]")


@given(st.text(max_size=50) | st.text("a1.*=<>!~,|() []'\"\t:/^-_", max_size=50))
def test_any_text_is_accepted_or_refused(text: str) -> None:
    try:
        assert check_match_spec(text)
    except InvalidSpecification as error:
        assert str(error)


@pytest.mark.parametrize(
    "text",
    [
        "a " + " " * 990 + ";",
        "a " + "1|" * 490 + ";",
        "a " + "1." * 490 + ";",
        "a " + "(" * 990,
        "a[" + "a=b," * 240 + ";",
        "a >=" + "1 " * 490,
        "a " + "*" * 990 + "=" * 5,
    ],
)
def test_F64_no_text_takes_long(text: str) -> None:
    with processor_time_below(1), pytest.raises(InvalidSpecification):
        check_match_spec(text)
