import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from condastore.documents import Limits
from condastore.errors import InvalidSpecification
from condastore.lockfiles.conda_lock import parse, to_json_text
from condastore.lockfiles.forms import Form, render
from condastore.lockfiles.records import from_records
from tests.lockfiles.samples import CHANNEL, MD5, POSTED, RECORD, SHA256, TZDATA, WHEEL, changed


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


def test_conda_lock_accepts_what_a_solve_became(tmp_path: Path) -> None:
    conda_lock = pytest.importorskip("conda_lock.lockfile")
    solved = from_records({"linux-64": [RECORD, TZDATA]}, {"linux-64": [WHEEL]}, [CHANNEL], "abc")
    path = tmp_path / "conda-lock.yml"
    path.write_text(to_json_text(solved))
    content = conda_lock.parse_conda_lock_file(path)
    conda_lock.write_conda_lock_file(content, path, metadata_choices=None)
    assert to_json_text(parse(path.read_text())) == to_json_text(solved)


def test_conda_lock_makes_of_the_yaml_what_we_make_of_it(tmp_path: Path) -> None:
    conda_lock = pytest.importorskip("conda_lock.conda_lock")
    solved = from_records(
        {"linux-64": [RECORD, TZDATA], "osx-arm64": [TZDATA]},
        {"linux-64": [WHEEL]},
        [CHANNEL],
        "abc",
    )
    path = tmp_path / "x.conda-lock.yml"
    path.write_text(render(solved, Form.CONDA_LOCK, "linux-64"))
    for platform in ("linux-64", "osx-arm64"):
        lines = conda_lock.render_lockfile_for_platform(
            lockfile=conda_lock.parse_conda_lock_file(path),
            extras=None,
            include_dev_dependencies=True,
            kind="explicit",
            platform=platform,
            suppress_warning_for_pip_and_explicit=True,
        )
        assert packages_in(lines) == packages_in(
            render(solved, Form.EXPLICIT, platform).splitlines()
        )


def packages_in(lines: list[str]) -> list[str]:
    return sorted(line for line in lines if "#sha256=" in line or line.startswith("https:"))
