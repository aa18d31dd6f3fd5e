import pytest

from condastore.channels import (
    Qualified,
    channel_urls,
    check_allowed,
    check_channel,
    has_credentials,
    resolve,
    resolve_match_spec,
    split_match_spec,
)
from condastore.errors import InvalidSpecification

ALIAS = "https://conda.anaconda.org"


@pytest.mark.parametrize(
    ("channel", "urls"),
    [
        ("conda-forge", ["https://conda.anaconda.org/conda-forge"]),
        ("conda-forge/", ["https://conda.anaconda.org/conda-forge"]),
        ("conda-forge/label/dev", ["https://conda.anaconda.org/conda-forge/label/dev"]),
        ("https://example.org/a//", ["https://example.org/a"]),
        ("file:///srv/channel/", ["file:///srv/channel"]),
        ("s3://bucket/channel", ["s3://bucket/channel"]),
        ("defaults", ["https://conda.anaconda.org/main", "https://conda.anaconda.org/r"]),
        ("nodefaults", []),
    ],
)
def test_a_channel_stands_for_urls(channel: str, urls: list[str]) -> None:
    check_channel(channel)
    assert list(resolve(channel, ALIAS + "/")) == urls


@pytest.mark.parametrize(
    "channel",
    [
        "",
        " ",
        "a b",
        "/srv/channel",
        "./x",
        "../x",
        "a/../b",
        "-x",
        "~/x",
        "a\nb",
        "a?b",
        "a" * 3000,
        "ftp://example.org/a",
        "https://",
        "https:///a",
        "https://example.org/a/../b",
        "https://example.org/a?token=b",
        "https://example.org/a#b",
        "https://[::1/a",
        "://a",
        "https://example.org/$TOKEN/a",
        "javascript://x/y",
    ],
)
def test_what_is_no_channel_is_refused(channel: str) -> None:
    with pytest.raises(InvalidSpecification):
        check_channel(channel)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:hunter2@example.org/a",
        "https://hunter2@example.org/a",
        "https://example.org/t/hunter2/a",
        "https://:hunter2@[::1/a",
        "https://a:hunter2@",
    ],
)
def test_I13_credentials_are_refused_and_not_repeated(url: str) -> None:
    assert has_credentials(url)
    with pytest.raises(InvalidSpecification) as caught:
        check_channel(url)
    assert "hunter2" not in str(caught.value)


def test_a_refusal_of_credentials_says_where_they_belong() -> None:
    with pytest.raises(InvalidSpecification, match=r"CondaStore\.channel_credentials"):
        check_channel("https://user:x@example.org/a")


@pytest.mark.parametrize(
    ("text", "qualified"),
    [
        ("numpy >=1", Qualified(None, None, "numpy >=1")),
        ("conda-forge::numpy", Qualified("conda-forge", None, "numpy")),
        ("conda-forge/linux-64::numpy=1", Qualified("conda-forge", "linux-64", "numpy=1")),
        ("pkgs/main::numpy", Qualified("pkgs/main", None, "numpy")),
        ("https://h/a/noarch::numpy", Qualified("https://h/a", "noarch", "numpy")),
        ("numpy[license='a::b']", Qualified(None, None, "numpy[license='a::b']")),
    ],
)
def test_a_match_spec_may_name_a_channel_and_a_subdir(text: str, qualified: Qualified) -> None:
    assert split_match_spec(text) == qualified


@pytest.mark.parametrize(
    ("text", "resolved"),
    [
        ("numpy", "numpy"),
        ("conda-forge::numpy >=1", f"{ALIAS}/conda-forge::numpy >=1"),
        ("conda-forge/linux-64::numpy", f"{ALIAS}/conda-forge/linux-64::numpy"),
        ("defaults::numpy", f"{ALIAS}/main::numpy"),
        ("nodefaults::numpy", "numpy"),
        ("file:///srv/a::numpy", "file:///srv/a::numpy"),
    ],
)
def test_the_channel_of_a_match_spec_becomes_a_url(text: str, resolved: str) -> None:
    assert resolve_match_spec(text, ALIAS) == resolved


def test_all_channels_of_a_solve_are_listed_once_in_priority_order() -> None:
    channels = ["file:///srv/a", "nodefaults", "conda-forge"]
    specs = ["numpy", "bioconda::samtools", "conda-forge::scipy", "https://h/x/linux-64::y"]
    assert channel_urls(channels, specs, ALIAS) == [
        "file:///srv/a",
        f"{ALIAS}/conda-forge",
        f"{ALIAS}/bioconda",
        "https://h/x",
    ]


def test_no_allowed_channels_allow_all() -> None:
    check_allowed(["https://example.org/a"], [], ALIAS)


def test_allowed_channels_are_compared_as_urls() -> None:
    check_allowed([f"{ALIAS}/main", f"{ALIAS}/r"], ["defaults"], ALIAS)
    check_allowed([f"{ALIAS}/conda-forge"], [f"{ALIAS}/conda-forge/"], ALIAS)


def test_excess_channels_are_named() -> None:
    with pytest.raises(InvalidSpecification) as caught:
        check_allowed(["https://b", "https://a", f"{ALIAS}/main"], ["main"], ALIAS)
    assert str(caught.value) == (
        "Conda channels {'https://a', 'https://b'} not allowed in specification"
    )


def test_an_allow_list_that_stands_for_no_channel_allows_none() -> None:
    with pytest.raises(InvalidSpecification):
        check_allowed([f"{ALIAS}/main"], ["nodefaults"], ALIAS)
