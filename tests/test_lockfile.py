import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from condastore.documents import Limits
from condastore.errors import InvalidSpecification
from condastore.lockfile import explicit_text, from_records, locked_for, parse, to_json_text

MD5 = "d7c89558ba9fa0495403155b64376d81"
SHA256 = "fe51de6107f9edc7aa4f786a70f4a883943bc9d39b3bb7307c04c41410990726"
CHANNEL = "https://conda.anaconda.org/conda-forge"

POSTED: dict[str, Any] = {
    "version": 1,
    "metadata": {
        "content_hash": {"linux-64": "5514"},
        "channels": [{"url": "conda-forge", "used_env_vars": []}],
        "platforms": ["linux-64"],
        "sources": ["environment.yaml"],
    },
    "package": [
        {
            "name": "_libgcc_mutex",
            "version": "0.1",
            "manager": "conda",
            "platform": "linux-64",
            "dependencies": {},
            "url": f"{CHANNEL}/linux-64/_libgcc_mutex-0.1-conda_forge.tar.bz2",
            "hash": {"md5": MD5, "sha256": SHA256},
            "category": "main",
            "optional": False,
        },
        {
            "name": "flask",
            "version": "3.0.0",
            "manager": "pip",
            "platform": "linux-64",
            "dependencies": {"jinja2": ">=3.1.2"},
            "url": "https://files.example.org/flask-3.0.0-py3-none-any.whl",
            "hash": {"sha256": SHA256},
            "category": "main",
            "optional": False,
        },
    ],
}

RECORD: dict[str, Any] = {
    "name": "numpy",
    "version": "1.26.4",
    "build": "py311_0",
    "build_number": 0,
    "subdir": "linux-64",
    "channel": CHANNEL,
    "url": f"{CHANNEL}/linux-64/numpy-1.26.4-py311_0.conda",
    "fn": "numpy-1.26.4-py311_0.conda",
    "md5": MD5,
    "sha256": SHA256,
    "depends": ["python >=3.11,<3.12.0a0", "python_abi 3.11.* *_cp311", "libblas"],
}
TZDATA: dict[str, Any] = {
    **RECORD,
    "name": "tzdata",
    "subdir": "noarch",
    "url": f"{CHANNEL}/noarch/tzdata-2024a-0.conda",
    "version": "2024a",
    "depends": [],
}
WHEEL = {
    "name": "flask",
    "version": "3.0.0",
    "url": "https://files.example.org/flask-3.0.0-py3-none-any.whl",
    "hash": {"sha256": SHA256},
    "requires": ["jinja2>=3.1.2"],
}


def changed(path: list[str | int], value: object) -> str:
    """The posted lockfile's text with another value at one place; `...` takes it away."""
    posted = copy.deepcopy(POSTED)
    place: Any = posted
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(posted)


def test_a_downloaded_lockfile_that_is_posted_back_yields_the_same_bytes() -> None:
    solved = from_records({"linux-64": [RECORD, TZDATA]}, {"linux-64": [WHEEL]}, [CHANNEL], "abc")
    downloaded = to_json_text(solved)
    assert to_json_text(parse(downloaded)) == downloaded
    assert downloaded.startswith('{\n    "version": 1,\n    "metadata": {\n        "content_hash"')


_texts = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=9)
_hashes = st.fixed_dictionaries({"md5": st.just(MD5)}, optional={"sha256": st.just(SHA256)})
_packages = st.fixed_dictionaries(
    {
        "name": _texts,
        "version": _texts,
        "manager": st.just("conda"),
        "platform": st.sampled_from(["linux-64", "osx-arm64"]),
        "url": st.just(RECORD["url"]),
        "hash": _hashes,
        "optional": st.booleans(),
    },
    optional={
        "dependencies": st.dictionaries(_texts, _texts),
        "source": st.just({"type": "url", "url": "https://example.org"}),
        "build": _texts,
        "category": st.sampled_from(["main", "dev"]),
    },
)
_metadata = st.fixed_dictionaries(
    dict.fromkeys(POSTED["metadata"], st.nothing())
    | {key: st.just(value) for key, value in POSTED["metadata"].items()},
    optional={
        "time_metadata": st.just({"created_at": "2024-01-01T00:00:00Z"}),
        "git_metadata": st.dictionaries(st.sampled_from(["git_sha", "git_user_name"]), _texts),
        "inputs_metadata": st.dictionaries(_texts, _hashes),
        "custom_metadata": st.dictionaries(_texts, _texts),
    },
)


@given(st.lists(_packages, max_size=3), _metadata)
def test_what_is_posted_is_what_is_stored(
    packages: list[dict[str, Any]], metadata: dict[str, Any]
) -> None:
    posted = {"version": 1, "metadata": metadata, "package": packages}
    text = to_json_text(parse(json.dumps(posted)))
    assert json.loads(text) == posted
    assert to_json_text(parse(text)) == text
    assert to_json_text(parse(yaml.safe_dump(json.loads(text), sort_keys=False))) == text


def test_nulls_of_optional_fields_are_left_out() -> None:
    text = changed(["package", 0, "source"], None)
    assert parse(text) == parse(json.dumps(POSTED))


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (["version"], 2, "version"),
        (["extra"], 1, "unknown field `extra`"),
        (["package", 0, "extra"], 1, "unknown field `extra`"),
        (["metadata", "extra"], 1, "unknown field `extra`"),
        (["metadata"], ..., "metadata"),
        (["metadata", "platforms"], "linux-64", "platforms"),
        (["metadata", "channels"], ["conda-forge"], "channels"),
        (["package", 0, "manager"], "npm", "manager"),
        (["package", 0, "url"], "", "url"),
        (["package", 0, "url"], f"{CHANNEL}/linux-64/x-1-0.zip", ".conda"),
        (["package", 0, "url"], "ftp://example.org/x-1-0.conda", "schemes"),
        (["package", 0, "hash"], {"sha256": SHA256}, "must use MD5"),
        (["package", 0, "hash", "md5"], "abc", "md5"),
        (["package", 0, "optional"], ..., "optional"),
        (["package", 0, "dependencies"], ["a"], "dependencies"),
    ],
)
def test_what_breaks_the_schema_is_refused(path: list[str | int], value: object, why: str) -> None:
    with pytest.raises(InvalidSpecification, match=why):
        parse(changed(path, value))


@pytest.mark.parametrize("text", ["", "[]", "name: x", "{", "a: &x b"])
def test_what_is_no_lockfile_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecification):
        parse(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["metadata", "channels", 0, "url"], "https://user:hunter2@example.org/a"),
        (["package", 0, "url"], "https://example.org/t/hunter2/a/linux-64/x-1-0.conda"),
        (["package", 1, "url"], "https://hunter2@example.org/x.whl"),
        (["package", 1, "source"], {"type": "url", "url": "https://u:hunter2@example.org/x"}),
    ],
)
def test_I13_credentials_are_refused_and_not_repeated(path: list[str | int], value: object) -> None:
    with pytest.raises(InvalidSpecification, match="channel_credentials") as caught:
        parse(changed(path, value))
    assert "hunter2" not in str(caught.value)


def test_the_size_is_limited() -> None:
    with pytest.raises(InvalidSpecification, match="larger than 100 bytes"):
        parse(json.dumps(POSTED), Limits(size_bytes=100, nodes=100))


def test_a_solve_becomes_a_lockfile_in_the_order_of_conda_lock() -> None:
    solved = from_records(
        {"osx-arm64": [TZDATA], "linux-64": [TZDATA, RECORD]},
        {"linux-64": [WHEEL]},
        [CHANNEL],
        "abc",
    ).as_dict()
    assert solved["metadata"] == {
        "content_hash": {"osx-arm64": "abc", "linux-64": "abc"},
        "channels": [{"url": CHANNEL, "used_env_vars": []}],
        "platforms": ["linux-64", "osx-arm64"],
        "sources": [],
    }
    assert [(entry["name"], entry["platform"]) for entry in solved["package"]] == [
        ("numpy", "linux-64"),
        ("tzdata", "linux-64"),
        ("tzdata", "osx-arm64"),
        ("flask", "linux-64"),
    ]
    assert solved["package"][0] == {
        "name": "numpy",
        "version": "1.26.4",
        "manager": "conda",
        "platform": "linux-64",
        "dependencies": {
            "libblas": "",
            "python": ">=3.11,<3.12.0a0",
            "python_abi": "3.11.* *_cp311",
        },
        "url": RECORD["url"],
        "hash": {"md5": MD5, "sha256": SHA256},
        "category": "main",
        "optional": False,
    }


def test_two_constraints_on_one_package_are_joined() -> None:
    record = {**RECORD, "depends": ["a >=1", "a <3", "b 1.* x_0", "b >1", "c >=1", "c"]}
    solved = from_records({"linux-64": [record]}, {}, [], "abc")
    assert solved.package[0].dependencies == {"a": "<3,>=1", "b": ">1,1.* x_0", "c": ">=1"}


def test_a_build_gets_back_what_a_solve_found() -> None:
    solved = from_records({"linux-64": [RECORD, TZDATA]}, {"linux-64": [WHEEL]}, [CHANNEL], "abc")
    locked = locked_for(parse(to_json_text(solved)), "linux-64")
    numpy, tzdata = locked.records
    assert {key: numpy[key] for key in numpy if key != "depends"} == {
        key: RECORD[key] for key in numpy if key != "depends"
    }
    assert sorted(numpy["depends"]) == sorted(RECORD["depends"])
    assert (tzdata["subdir"], tzdata["channel"]) == ("noarch", CHANNEL)
    assert locked.pip == [{key: WHEEL[key] for key in ("name", "version", "url", "hash")}]


def test_a_build_gets_the_packages_of_its_platform_and_of_the_usual_categories() -> None:
    posted = copy.deepcopy(POSTED)
    first = posted["package"][0]
    posted["package"] += [
        {**first, "category": "dev", "optional": True},
        {**first, "name": "extra", "category": "docs", "optional": True},
        {**first, "name": "other", "platform": "osx-arm64"},
    ]
    records, pip = locked_for(parse(json.dumps(posted)), "linux-64")
    assert [record["name"] for record in records] == ["_libgcc_mutex"]
    assert [entry["name"] for entry in pip] == ["flask"]


def test_a_url_may_escape_what_its_file_name_holds() -> None:
    url = f"{CHANNEL}/linux-64/x-1%212.0-0.tar.bz2"
    locked = locked_for(parse(changed(["package", 0, "url"], url)), "linux-64")
    assert locked.records[0]["fn"] == "x-1!2.0-0.tar.bz2"
    assert locked.records[0]["url"] == url


def test_conda_lock_accepts_what_a_solve_became(tmp_path: Path) -> None:
    conda_lock = pytest.importorskip("conda_lock.lockfile")
    solved = from_records({"linux-64": [RECORD, TZDATA]}, {"linux-64": [WHEEL]}, [CHANNEL], "abc")
    path = tmp_path / "conda-lock.yml"
    path.write_text(to_json_text(solved))
    content = conda_lock.parse_conda_lock_file(path)
    conda_lock.write_conda_lock_file(content, path, metadata_choices=None)
    assert to_json_text(parse(path.read_text())) == to_json_text(solved)


def test_the_explicit_text_names_urls_and_checksums() -> None:
    text = explicit_text("linux-64", [RECORD, {**TZDATA, "md5": None}])
    assert text == (
        f"#platform: linux-64\n@EXPLICIT\n{RECORD['url']}#{MD5}\n{TZDATA['url']}#{SHA256}\n"
    )


def test_a_pip_package_says_what_it_requires_without_an_extra() -> None:
    requires = ["Click>=8.1", "colorama", 'tomli; python_version < "3"', 'pytest; extra == "test"']
    wheel = {**WHEEL, "requires": [*requires, "what is this"]}

    (package,) = from_records({}, {"linux-64": [wheel]}, [CHANNEL], "abc").package

    assert package.dependencies == {"click": ">=8.1", "colorama": "*"}
