"""Layered settings: the daemon's, a namespace's, an environment's (rest-api §10)."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import msgspec
from msgspec import Meta

from condastore.builds import ArtifactType
from condastore.channels import check_channel, check_subdir, check_url
from condastore.errors import InvalidInput
from condastore.matchspecs import check_match_spec
from condastore.names import check_name, set_text
from condastore.requirements import check_requirement

_Text = Annotated[str, Meta(min_length=1, max_length=2048)]
_Texts = Annotated[tuple[_Text, ...], Meta(max_length=1000)]
_Id = Annotated[int, Meta(ge=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings; those without a default depend on the machine."""

    default_namespace: _Text = "default"
    filesystem_namespace: _Text = "filesystem"
    default_uid: _Id | None
    default_gid: _Id | None
    default_permissions: Annotated[str, Meta(pattern="^[0-7]{3,4}$")] | None = "775"
    storage_threshold: Annotated[int, Meta(ge=0)] = 5 * 2**30
    conda_command: _Text = "rattler"
    conda_platforms: _Texts
    conda_max_solve_time: Annotated[int, Meta(gt=0)] = 300
    conda_indexed_channels: _Texts = ("main", "conda-forge")
    build_artifacts_kept_on_deletion: tuple[ArtifactType, ...] = (
        ArtifactType.LOGS,
        ArtifactType.LOCKFILE,
        ArtifactType.YAML,
    )
    conda_solve_platforms: _Texts
    conda_channel_alias: _Text = "https://conda.anaconda.org"
    conda_default_channels: _Texts = ("conda-forge",)
    conda_allowed_channels: _Texts = ()
    conda_default_packages: _Texts = ()
    conda_required_packages: _Texts = ()
    conda_included_packages: _Texts = ()
    pypi_default_packages: _Texts = ()
    pypi_required_packages: _Texts = ()
    pypi_included_packages: _Texts = ()
    build_artifacts: tuple[ArtifactType, ...] = (
        ArtifactType.LOCKFILE,
        ArtifactType.YAML,
        ArtifactType.CONDA_PACK,
        ArtifactType.CONSTRUCTOR_INSTALLER,
    )

    def as_dict(self) -> dict[str, Any]:
        """The plain values, as `GET /setting/` shows them."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in msgspec.to_builtins(self).items()
        }


class Level(StrEnum):
    """Where a setting is set; later ones win."""

    GLOBAL = "global"
    NAMESPACE = "namespace"
    ENVIRONMENT = "environment"


GLOBAL_KEYS = frozenset(
    {
        "default_namespace",
        "filesystem_namespace",
        "default_uid",
        "default_gid",
        "default_permissions",
        "storage_threshold",
        "conda_command",
        "conda_platforms",
        "conda_max_solve_time",
        "conda_indexed_channels",
        "build_artifacts_kept_on_deletion",
    }
)

_TYPES = get_type_hints(Settings, include_extras=True)

# What else a value, or each of its entries, must be.
_CHECKS: dict[str, Callable[[str], object]] = {
    "default_namespace": check_name,
    "filesystem_namespace": check_name,
    "conda_channel_alias": check_url,
    **dict.fromkeys(
        ("conda_indexed_channels", "conda_default_channels", "conda_allowed_channels"),
        check_channel,
    ),
    "conda_solve_platforms": check_subdir,
    **dict.fromkeys(
        ("conda_default_packages", "conda_required_packages", "conda_included_packages"),
        check_match_spec,
    ),
    **dict.fromkeys(
        ("pypi_default_packages", "pypi_required_packages", "pypi_included_packages"),
        check_requirement,
    ),
}


def merge(
    defaults: Settings, global_layer: Mapping[str, Any], *lower_layers: Mapping[str, Any]
) -> Settings:
    """The settings in force: later layers win; global keys count in the global layer only."""
    merged = defaults.as_dict() | dict(global_layer)
    for layer in lower_layers:
        merged |= {key: value for key, value in layer.items() if key not in GLOBAL_KEYS}
    return msgspec.convert(merged, Settings)


def validate_update(level: Level, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes with their values as they are stored, or `InvalidInput` (rest-api §4.7)."""
    unknown = changes.keys() - _TYPES.keys()
    if unknown:
        raise InvalidInput(f"Invalid setting keys {set_text(unknown)}")
    for key in changes:
        if level is not Level.GLOBAL and key in GLOBAL_KEYS:
            raise InvalidInput(
                f"Setting {key} is a global setting"
                " and cannot be set within a namespace or environment"
            )
    return {key: _checked(key, value) for key, value in changes.items()}


def _checked(key: str, value: Any) -> Any:
    try:
        # Not strict: the admin pages send numbers as text.
        converted = msgspec.convert(value, _TYPES[key], strict=False)
        entries = converted if isinstance(converted, tuple) else (converted,)
        for entry in entries if key in _CHECKS else ():
            _CHECKS[key](entry)
    except (msgspec.ValidationError, InvalidInput) as error:
        raise InvalidInput(f"1 validation error for {key}\n  {error}") from None
    return list(converted) if isinstance(converted, tuple) else converted
