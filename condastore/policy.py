"""What the settings in force make of a specification (rest-api §9.3)."""

from collections.abc import Callable, Sequence

import msgspec

from condastore.channels import channel_urls, check_allowed
from condastore.errors import InvalidSpecification
from condastore.matchspecs import check_match_spec
from condastore.names import set_text
from condastore.requirements import check_requirement
from condastore.settings import Settings
from condastore.specification import CondaSpecification, PipBlock


def apply_settings(specification: CondaSpecification, settings: Settings) -> CondaSpecification:
    """The specification with what the settings add; `InvalidSpecification` if it breaks a rule."""
    specification = _apply_channels(specification, settings)
    specification = _apply_pypi(specification, settings)
    return _apply_conda(specification, settings)


def _apply_channels(specification: CondaSpecification, settings: Settings) -> CondaSpecification:
    channels = specification.channels or settings.conda_default_channels
    alias = settings.conda_channel_alias
    urls = channel_urls(channels, specification.match_specs, alias)
    check_allowed(urls, settings.conda_allowed_channels, alias)
    return msgspec.structs.replace(specification, channels=channels)


def _apply_pypi(specification: CondaSpecification, settings: Settings) -> CondaSpecification:
    entries = specification.requirements
    additions = [] if entries else list(settings.pypi_default_packages)
    additions += _absent(settings.pypi_included_packages, [*entries, *additions], check_requirement)
    if additions:
        specification = msgspec.structs.replace(
            specification, dependencies=_with_requirements(specification.dependencies, additions)
        )
    _require("PyPi", settings.pypi_required_packages, specification.requirements, check_requirement)
    return specification


def _with_requirements(
    dependencies: tuple[str | PipBlock, ...], additions: Sequence[str]
) -> tuple[str | PipBlock, ...]:
    """The dependencies with the additions in the first pip block, or in a new one at the end."""
    for position, entry in enumerate(dependencies):
        if isinstance(entry, PipBlock):
            block = PipBlock((*entry.pip, *additions))
            return (*dependencies[:position], block, *dependencies[position + 1 :])
    return (*dependencies, PipBlock(tuple(additions)))


def _apply_conda(specification: CondaSpecification, settings: Settings) -> CondaSpecification:
    # A pip block counts here: the conda defaults are for a specification that asks for nothing.
    dependencies = specification.dependencies or settings.conda_default_packages
    specification = msgspec.structs.replace(specification, dependencies=dependencies)
    additions = _absent(
        settings.conda_included_packages, specification.match_specs, check_match_spec
    )
    specification = msgspec.structs.replace(specification, dependencies=(*dependencies, *additions))
    _require("Conda", settings.conda_required_packages, specification.match_specs, check_match_spec)
    return specification


def _absent(
    wanted: Sequence[str], entries: Sequence[str], name_of: Callable[[str], str]
) -> list[str]:
    """The wanted entries whose names are not among those of the others."""
    names = {name_of(entry) for entry in entries}
    return [entry for entry in wanted if name_of(entry) not in names]


def _require(
    kind: str, required: Sequence[str], entries: Sequence[str], name_of: Callable[[str], str]
) -> None:
    missing = {name_of(entry) for entry in _absent(required, entries, name_of)}
    if missing:
        raise InvalidSpecification(
            f"{kind} packages {set_text(missing)} required and missing from specification"
        )
