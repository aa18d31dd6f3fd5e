"""Repositories: environments under the names that registries' clients know them by."""

from dataclasses import dataclass

from condastore.access import Caller
from condastore.dynamic_images import environment_name, is_environment_name, match_specs
from condastore.errors import InvalidInput, RegistryError
from condastore.oci import MAX_REPOSITORY_LENGTH, is_repository

PULL = "pull"
BUILD = "build"
"""To have an image made that is named by what is in it."""


@dataclass(frozen=True)
class Repository:
    """The images of an environment."""

    name: str
    namespace: str
    environment: str
    specs: tuple[str, ...] = ()
    """What it is made of, if it is made on demand."""

    @property
    def arn(self) -> str:
        """What permissions on it are checked against."""
        return f"{self.namespace}/{self.environment}"


def parse_name(name: str, on_demand_namespace: str | None, max_specs: int) -> Repository:
    """Returns the repository of a name; it need not be there. Raises `RegistryError`."""
    if len(name) > MAX_REPOSITORY_LENGTH:
        raise RegistryError(
            "NAME_INVALID", f"the name is longer than {MAX_REPOSITORY_LENGTH} characters"
        )
    if not is_repository(name):
        raise RegistryError(
            "NAME_INVALID",
            f"{name!r} can't be the name of a repository: its parts are lower-case letters and "
            "digits, with single '.', '_' or '-' in between; an environment with another name has "
            "to be built under such a name to be pulled",
        )
    namespace, *components = name.split("/")
    if not components:
        raise RegistryError("NAME_UNKNOWN", f"{name!r} should be NAMESPACE/ENVIRONMENT")
    if namespace == on_demand_namespace and not is_environment_name(components[0]):
        return _on_demand(name, namespace, components, max_specs)
    if len(components) > 1:
        raise RegistryError("NAME_UNKNOWN", f"{name!r} should be NAMESPACE/ENVIRONMENT")
    return Repository(name, namespace, components[0])


def _on_demand(name: str, namespace: str, components: list[str], max_specs: int) -> Repository:
    if len(components) > max_specs:
        raise RegistryError(
            "NAME_INVALID", f"an image on demand is of at most {max_specs} packages"
        )
    try:
        specs = match_specs(components)
    except InvalidInput as error:
        raise RegistryError("NAME_INVALID", str(error)) from None
    return Repository(name, namespace, environment_name(specs), specs)


def actions(caller: Caller, repository: Repository) -> frozenset[str]:
    """Returns what a caller may do with a repository."""
    found = set()
    if caller.allows("environment::read", repository.arn):
        found.add(PULL)
        if repository.specs and caller.allows("environment:create", repository.arn):
            found.add(BUILD)
    return frozenset(found)
