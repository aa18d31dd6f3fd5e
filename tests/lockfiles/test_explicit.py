import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rattler.explicit_environment import ExplicitEnvironmentSpec

from condastore.documents import Limits
from condastore.errors import InvalidSpecification
from condastore.lockfiles.conda_lock import Hash, Lockfile, Package, of_packages, pip_package
from condastore.lockfiles.explicit import is_explicit, parse, render
from condastore.lockfiles.records import from_records
from tests.lockfiles.samples import CHANNEL, MD5, RECORD, SHA256, TZDATA, WHEEL
from tests.lockfiles.strategies import FEW, lockfiles

LIMITS = Limits(2**20, 10_000)
NUMPY, TZ = RECORD["url"], TZDATA["url"]


def read(*lines: str) -> Lockfile:
    return parse("\n".join(lines), LIMITS, "linux-64")


def test_every_package_has_a_line_with_what_it_depends_on_before_it() -> None:
    libblas = {**TZDATA, "name": "libblas", "url": f"{CHANNEL}/noarch/libblas-3-0.conda"}
    lockfile = from_records(
        {"linux-64": [RECORD, TZDATA, libblas], "osx-arm64": [TZDATA]},
        {"linux-64": [WHEEL]},
        [CHANNEL],
        "abc",
    )
    assert render(lockfile, "linux-64").splitlines()[2:] == [
        "# platform: linux-64",
        "@EXPLICIT",
        f"{CHANNEL}/noarch/libblas-3-0.conda#{MD5}",
        f"{NUMPY}#{MD5}",
        f"{TZ}#{MD5}",
        "# What follows is for pip: conda-lock and micromamba install it, conda not.",
        f"# pip flask @ {WHEEL['url']}#sha256={SHA256}",
    ]
    assert render(lockfile, "osx-arm64").splitlines()[2:] == [
        "# platform: osx-arm64",
        "@EXPLICIT",
        f"{TZ}#{MD5}",
    ]


def test_packages_that_depend_on_each_other_have_a_line_each() -> None:
    records = [
        {**TZDATA, "name": name, "depends": [needs], "url": f"{CHANNEL}/noarch/{name}-1-0.conda"}
        for name, needs in (("pip", "python"), ("python", "pip"), ("six", "six"))
    ]
    text = render(from_records({"linux-64": records}, {}, [], "abc"), "linux-64")
    assert re.findall("noarch/([a-z]+)-", text) == ["python", "pip", "six"]


@given(lockfiles())
@FEW
def test_what_is_written_is_read_again(lockfile: Lockfile) -> None:
    text = render(lockfile, "linux-64")
    again = parse(text, LIMITS, "osx-arm64")
    assert is_explicit(text, LIMITS)
    assert again.platforms == ["linux-64"]
    assert [(p.name, p.version, p.url) for p in again.package] == [
        (p.name, p.version, p.url) for p in lockfile.package if p.platform == "linux-64"
    ]
    assert sorted(render(again, "linux-64").splitlines()) == sorted(text.splitlines())


@given(lockfiles())
@FEW
def test_rattler_reads_what_is_written(lockfile: Lockfile) -> None:
    spec = ExplicitEnvironmentSpec.from_str(render(lockfile, "linux-64"))
    assert str(spec.platform) == "linux-64"
    assert sorted(package.url.partition("#")[0] for package in spec.packages) == sorted(
        p.url for p in lockfile.package if p.platform == "linux-64" and p.manager == "conda"
    )


def test_a_sha256_stands_where_there_is_no_md5() -> None:
    lockfile = read("@EXPLICIT", f"{NUMPY}#{SHA256}")
    assert lockfile.package[0].hash == Hash(sha256=SHA256)
    assert f"\n{NUMPY}#{SHA256}\n" in render(lockfile, "linux-64")


@pytest.mark.parametrize(
    ("checksum", "expected"),
    [
        (MD5, Hash(md5=MD5)),
        (MD5.upper(), Hash(md5=MD5)),
        (f"md5:{MD5}", Hash(md5=MD5)),
        (SHA256, Hash(sha256=SHA256)),
        (f"sha256:{SHA256}", Hash(sha256=SHA256)),
    ],
)
def test_checksums_as_the_tools_write_them(checksum: str, expected: Hash) -> None:
    (package,) = read("@EXPLICIT", f"{NUMPY}#{checksum}").package
    assert (package.name, package.version, package.hash) == ("numpy", "1.26.4", expected)
    assert package.place.channel == CHANNEL


def test_the_platform_is_that_of_the_comment_or_the_packages_or_the_server() -> None:
    tz, numpy = f"{TZ}#{MD5}", f"{NUMPY}#{MD5}"
    here = "osx-arm64"
    for lines, platform in (
        (["# platform: linux-64", "@EXPLICIT", tz], "linux-64"),
        (["@EXPLICIT", tz, numpy], "linux-64"),
        (["@EXPLICIT", tz], here),
    ):
        lockfile = parse("\n".join(lines), LIMITS, here)
        assert lockfile.platforms == lockfile.metadata.platforms == [platform]


def test_blank_lines_comments_and_line_ends_of_windows_mean_nothing() -> None:
    text = f"# made by hand\r\n\r\n@EXPLICIT\r\n\r\n  {TZ}#{MD5}  \r\n# the end"
    assert is_explicit(text, LIMITS)
    assert [package.name for package in parse(text, LIMITS, "linux-64").package] == ["tzdata"]


@pytest.mark.parametrize("text", ["", "# only\n", "{}", "name: x\n@EXPLICIT\n", "@EXPLICITLY\n"])
def test_other_texts_are_not_explicit(text: str) -> None:
    assert not is_explicit(text, LIMITS)


PIP = "https://files.example.org/flask-3.0.0"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (NUMPY, "line 2: .*#MD5 or #SHA256"),
        (f"{NUMPY}#{MD5}0", "line 2: .*#MD5 or #SHA256"),
        (f"{CHANNEL}/linux-64/numpy.conda#{MD5}", "line 2: .*NAME-VERSION-BUILD"),
        (f"{CHANNEL}/linux-64/numpy-1-0.zip#{MD5}", "line 2: .*NAME-VERSION-BUILD"),
        (f"{CHANNEL}/linux-64/a b-1-0.conda#{MD5}", "line 2: .*not valid"),
        (f"{CHANNEL}/linux-64/..-1-0.conda?x=../y-1-0.conda#{MD5}", "line 2: "),
        (f"{CHANNEL}/numpy-1-0.conda#{MD5}", "line 2: .*platform"),
        (f"ftp://example.org/noarch/x-1-0.conda#{MD5}", "line 2: .*schemes"),
        (f"/tmp/noarch/x-1-0.conda#{MD5}", "line 2: .*schemes"),
        ("# platform: amiga", "line 2: .*amiga.*linux-64"),
        (f"# pip flask @ {PIP}-py3-none-any.whl", "line 2: .*pip"),
        (f"# pip flask @ {PIP}-py3-none-any.whl#sha256=abc", "line 2: .*pip"),
        (f"# pip flask @ {PIP}.exe#sha256={SHA256}", "line 2: .*wheel"),
        (f"# pip flask @ javascript:x.whl#sha256={SHA256}", "line 2: .*schemes"),
        (f"{TZ}#{MD5}\n{CHANNEL}/linux-64/tzdata-1-0.conda#{MD5}", "line 3: .*second.*tzdata"),
        (f"# platform: linux-64\n{CHANNEL}/osx-64/x-1-0.conda#{MD5}", "line 3: .*osx-64"),
        ("a\x00b", "control characters"),
    ],
)
def test_what_can_not_be_installed_is_refused_with_its_line(line: str, why: str) -> None:
    with pytest.raises(InvalidSpecification, match=why):
        read("@EXPLICIT", line)


@pytest.mark.parametrize(
    "line",
    [
        f"https://user:hunter2@example.org/noarch/x-1-0.conda#{MD5}",
        f"https://example.org/t/hunter2/c/noarch/x-1-0.conda#{MD5}",
        f"# pip x @ https://hunter2@example.org/x-1-py3-none-any.whl#sha256={SHA256}",
    ],
)
def test_I13_credentials_are_refused_and_not_repeated(line: str) -> None:
    with pytest.raises(InvalidSpecification, match="channel_credentials") as caught:
        read("@EXPLICIT", line)
    assert "hunter2" not in str(caught.value)


def test_size_and_lines_are_limited() -> None:
    with pytest.raises(InvalidSpecification, match="larger than 20 bytes"):
        parse("@EXPLICIT\n" + "#" * 20, Limits(20, 100), "linux-64")
    with pytest.raises(InvalidSpecification, match="more than 10 lines"):
        parse("@EXPLICIT\n" + "\n" * 20, Limits(100, 10), "linux-64")


@given(st.text(max_size=60), st.sampled_from(["@EXPLICIT\n", f"@EXPLICIT\n{NUMPY}#{MD5}\n", ""]))
def test_any_text_is_read_or_refused(text: str, before: str) -> None:
    try:
        lockfile = parse(before + text, LIMITS, "linux-64")
    except InvalidSpecification:
        return
    assert render(lockfile, lockfile.platforms[0])


def test_nothing_that_pip_is_told_begins_a_line() -> None:
    evil: Package = pip_package(
        "x\nhttps://example.org/noarch/evil-1-0.conda#" + MD5,
        "1",
        "linux-64",
        "https://example.org/x\n@EXPLICIT\n#",
        Hash(sha256=SHA256),
    )
    text = render(of_packages([evil], ["linux-64"], []), "linux-64")
    assert all(line.startswith("#") or line == "@EXPLICIT" for line in text.splitlines())
    assert text.count("\n@EXPLICIT\n") == 1
