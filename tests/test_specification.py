import hashlib
import json
import random
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from condastore import environment_yaml
from condastore.lockfiles import conda_lock as lockfile
from condastore.names import Name
from condastore.specification import (
    LockfileSpecification,
    PipBlock,
    canonical_hash,
    from_stored,
)

VECTOR: dict[str, Any] = {
    "channels": ["conda-forge"],
    "dependencies": ["python", {"pip": ["flask"]}],
    "description": "hello",
    "name": "simple",
    "prefix": None,
    "variables": {"A": 1, "B": "two"},
}
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
            "name": "x",
            "version": "1",
            "manager": "conda",
            "platform": "linux-64",
            "url": "https://conda.anaconda.org/conda-forge/linux-64/x-1-0.conda",
            "hash": {"md5": "d7c89558ba9fa0495403155b64376d81"},
            "optional": False,
        }
    ],
}
VECTOR_SHA256 = "e69ac8a59322bf8b542376283b9298de2fa69f9426d59616626bfef1891df263"


def test_the_hash_of_the_contract() -> None:
    specification = environment_yaml.from_value(VECTOR)
    assert specification.as_dict() == VECTOR
    assert specification.sha256 == VECTOR_SHA256


def test_the_hash_is_that_of_one_json_text_whatever_the_pieces() -> None:
    stored = {
        "name": "é",
        "lockfile": {
            "metadata": {"channels": [], "custom": {}, "platforms": ["linux-64"]},
            "package": [{"hash": {"md5": "x"}, "dependencies": {}}, {"a": [{"b": None}, 1]}, "p"],
            "version": 1,
        },
        "is_partial": True,
    }
    text = json.dumps(stored, sort_keys=True)
    assert canonical_hash(stored) == hashlib.sha256(text.encode()).hexdigest()


def test_the_hash_sorts_scalars_by_type_and_text_and_keeps_the_order_of_containers() -> None:
    mixed = [3, "b", {"z": 1}, None, 10, "a", {"a": 1}, [2, 1]]
    ordered = [None, {"z": 1}, {"a": 1}, 10, 3, [1, 2], "a", "b"]
    assert canonical_hash({"x": mixed}) == canonical_hash({"x": ordered})
    assert canonical_hash({"x": [{"a": 1}, {"z": 1}]}) != canonical_hash(
        {"x": [{"z": 1}, {"a": 1}]}
    )


@given(st.lists(st.sampled_from(["numpy", "scipy", "python >=3", "flask"])), st.randoms())
def test_the_order_of_dependencies_does_not_change_the_hash(
    dependencies: list[str], order: random.Random
) -> None:
    shuffled = order.sample(dependencies, len(dependencies))
    one = environment_yaml.from_value({"name": "x", "dependencies": dependencies})
    other = environment_yaml.from_value({"name": "x", "dependencies": shuffled})
    assert one.sha256 == other.sha256


def test_the_parts_of_the_dependencies() -> None:
    specification = environment_yaml.from_value(
        {"name": "x", "dependencies": ["a", {"pip": ["b"]}, "c", {"pip": ["d", "e"]}]}
    )
    assert specification.match_specs == ["a", "c"]
    assert specification.requirements == ["b", "d", "e"]
    assert specification.dependencies[1] == PipBlock(("b",))


def test_a_stored_specification_is_read_back() -> None:
    specification = environment_yaml.from_value(VECTOR)
    stored = json.loads(json.dumps(specification.as_dict()))
    assert from_stored(stored, is_lockfile=False) == specification


def test_a_cutoff_is_stored_and_hashed_only_where_there_is_one() -> None:
    ordinary = environment_yaml.from_value(VECTOR)
    dated = msgspec.structs.replace(ordinary, exclude_newer="2026-01-31")
    assert "exclude_newer" not in ordinary.as_dict()
    assert dated.as_dict() == {**VECTOR, "exclude_newer": "2026-01-31"}
    assert dated.sha256 != ordinary.sha256
    stored = json.loads(json.dumps(dated.as_dict()))
    assert from_stored(stored, is_lockfile=False) == dated


def test_a_stored_lockfile_is_read_back() -> None:
    locked = lockfile.parse(json.dumps(POSTED))
    specification = LockfileSpecification(Name("x"), locked, "hello")
    stored = json.loads(json.dumps(specification.as_dict()))
    assert stored == {"name": "x", "description": "hello", "lockfile": POSTED}
    assert from_stored(stored, is_lockfile=True) == specification
    assert specification.sha256 == canonical_hash(stored)


def test_a_version_that_was_not_given_does_not_change_the_hash() -> None:
    without = {key: value for key, value in POSTED.items() if key != "version"}
    hashes = {
        LockfileSpecification(Name("x"), lockfile.parse(json.dumps(posted))).sha256
        for posted in (POSTED, without)
    }
    assert len(hashes) == 1


def test_what_is_stored_is_plain_json() -> None:
    assert (
        msgspec.json.decode(msgspec.json.encode(environment_yaml.from_value(VECTOR).as_dict()))
        == VECTOR
    )
