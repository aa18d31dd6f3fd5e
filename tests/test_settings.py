import json
from typing import Any

import pytest

from condastore.builds import ArtifactType
from condastore.errors import InvalidInput
from condastore.settings import GLOBAL_KEYS, Level, Settings, merge, validate_update

DEFAULTS = Settings(
    default_uid=1000,
    default_gid=1000,
    conda_platforms=("linux-64", "noarch"),
    conda_solve_platforms=("linux-64",),
)


def test_the_keys_are_those_of_the_contract() -> None:
    assert len(DEFAULTS.as_dict()) == 22
    assert len(GLOBAL_KEYS) == 11
    assert DEFAULTS.as_dict().keys() >= GLOBAL_KEYS


def test_later_layers_win_with_whole_values() -> None:
    merged = merge(
        DEFAULTS,
        {"conda_default_channels": ["a", "b"], "conda_command": "mamba"},
        {"conda_default_channels": ["c"], "build_artifacts": ["YAML"]},
        {"build_artifacts": []},
    )
    assert merged.conda_default_channels == ("c",)
    assert merged.conda_command == "mamba"
    assert merged.build_artifacts == ()


def test_global_keys_below_the_global_layer_are_ignored() -> None:
    merged = merge(DEFAULTS, {"default_uid": None}, {"default_uid": 5}, {"conda_command": "conda"})
    assert merged.default_uid is None
    assert merged.conda_command == "rattler"


def test_a_merge_leaves_the_defaults_alone() -> None:
    before = DEFAULTS.as_dict()
    merge(DEFAULTS, {"conda_default_channels": ["a"]}, {"conda_default_channels": ["b"]})
    assert DEFAULTS.as_dict() == before


def test_keys_of_another_version_are_ignored() -> None:
    assert merge(DEFAULTS, {"gone": 1}) == DEFAULTS


def test_what_is_shown_is_plain_json() -> None:
    shown = DEFAULTS.as_dict()
    assert json.loads(json.dumps(shown)) == shown
    assert shown["build_artifacts_kept_on_deletion"] == ["LOGS", "LOCKFILE", "YAML"]


@pytest.mark.parametrize(
    ("changes", "stored"),
    [
        ({"conda_max_solve_time": "60"}, {"conda_max_solve_time": 60}),
        ({"default_uid": None}, {"default_uid": None}),
        ({"conda_default_channels": ["a"]}, {"conda_default_channels": ["a"]}),
        ({"build_artifacts": ["YAML"]}, {"build_artifacts": [ArtifactType.YAML]}),
        ({"pypi_required_packages": ["flask>=1"]}, {"pypi_required_packages": ["flask>=1"]}),
        ({}, {}),
    ],
)
def test_changes_are_stored_with_their_types(
    changes: dict[str, Any], stored: dict[str, Any]
) -> None:
    assert validate_update(Level.GLOBAL, changes) == stored
    merge(DEFAULTS, stored)


def test_unknown_keys_are_named() -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_update(Level.NAMESPACE, {"k": 1, "conda_command": "x"})
    assert str(caught.value) == "Invalid setting keys {'k'}"


@pytest.mark.parametrize("level", [Level.NAMESPACE, Level.ENVIRONMENT])
@pytest.mark.parametrize("key", sorted(GLOBAL_KEYS))
def test_global_keys_are_refused_below_the_global_level(level: Level, key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_update(level, {key: DEFAULTS.as_dict()[key]})
    assert str(caught.value) == (
        f"Setting {key} is a global setting and cannot be set within a namespace or environment"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("conda_max_solve_time", "soon"),
        ("conda_max_solve_time", 0),
        ("storage_threshold", -1),
        ("default_uid", -1),
        ("default_permissions", "rwx"),
        ("default_permissions", 775),
        ("default_namespace", "a/b"),
        ("conda_default_channels", "conda-forge"),
        ("conda_default_channels", [1]),
        ("conda_default_channels", ["../x"]),
        ("conda_channel_alias", "conda-forge"),
        ("conda_required_packages", ["numpy="]),
        ("pypi_default_packages", ["a b"]),
        ("build_artifacts", ["BOGUS"]),
        ("conda_command", ""),
    ],
)
def test_wrong_values_are_refused(key: str, value: object) -> None:
    with pytest.raises(InvalidInput) as caught:
        validate_update(Level.GLOBAL, {key: value})
    assert str(caught.value).startswith(f"1 validation error for {key}\n")


@pytest.mark.parametrize("level", list(Level))
def test_every_local_setting_can_be_set_everywhere(level: Level) -> None:
    local = {key: value for key, value in DEFAULTS.as_dict().items() if key not in GLOBAL_KEYS}
    assert validate_update(level, local) == local
