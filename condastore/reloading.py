"""The configuration, read again while the daemon runs: what counts at once, and what does not."""

import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from traitlets import TraitError
from traitlets.config import Configurable

from condastore.access import AccessPolicy
from condastore.auth import Authentication
from condastore.configuration import (
    AuthenticationBackend,
    CondaStore,
    CondaStoreWorker,
    RBACAuthorizationBackend,
)
from condastore.errors import ConfigurationError, InvalidInput
from condastore.image_configuration import ContainerRegistry, Images
from condastore.server_configuration import CondaStoreServer
from condastore.setting_rows import configured
from condastore.settings import Settings

logger = logging.getLogger(__name__)

# These are read anew whenever they are needed, or `Daemon` passes them on. What is not here,
# ports and directories and classes, is built into the running parts.
LIVE: Mapping[str, frozenset[str]] = {
    "CondaStoreServer": frozenset({"keep_alive_timeout", "log_level", "max_connections"}),
    "CondaStore": frozenset(field.name for field in msgspec.structs.fields(Settings))
    - {"default_namespace", "filesystem_namespace"}
    | {
        "build_key_version",
        "channel_credentials",
        "compile_bytecode",
        "conda_flags",
        "max_build_memory",
        "max_build_time",
        "max_fragments_bytes",
        "max_lockfile_bytes",
        "max_package_bytes",
        "max_package_files",
        "max_specification_bytes",
        "min_free_bytes",
        "offline",
        "pip_allow_sdists",
        "pip_index_url",
        "repodata_ttl",
        "run_link_scripts",
    },
    "CondaStoreWorker": frozenset(
        {
            "artifact_concurrency",
            "concurrency",
            "drain_timeout",
            "max_attempts",
            "max_solver_memory",
            "max_solver_uses",
            "solver_idle_time",
            "warm_solvers",
        }
    ),
    "ContainerRegistry": frozenset(
        {
            "blob_grace",
            "unknown_blob_grace",
            "hold_time",
            "layer_cache_bytes",
            "max_on_demand_builds",
            "max_on_demand_packages",
            "max_redirects",
            "max_waiting",
            "on_demand_lifetime",
            "pull_grace",
            "retry_failed_after",
        }
    ),
    "AuthenticationBackend": frozenset({"predefined_tokens"}),
    "RBACAuthorizationBackend": frozenset(
        {"authenticated_role_bindings", "role_mappings", "unauthenticated_role_bindings"}
    ),
    "PAMAuthentication": frozenset(
        {"admin_groups", "allow_root", "allowed_groups", "group_role_bindings", "timeout"}
    ),
}


@dataclass(frozen=True)
class Configuration:
    """All that one reading of the configuration says, checked."""

    app: CondaStoreServer
    store: CondaStore
    worker: CondaStoreWorker
    images: Images
    registry: ContainerRegistry
    backend: AuthenticationBackend
    roles: RBACAuthorizationBackend
    authentication: Authentication

    @classmethod
    def of(cls, app: CondaStoreServer) -> "Configuration":
        """Raises `ConfigurationError`."""
        try:
            found = cls(
                app,
                CondaStore(parent=app),
                CondaStoreWorker(parent=app),
                Images(parent=app),
                ContainerRegistry(parent=app),
                AuthenticationBackend(parent=app),
                RBACAuthorizationBackend(parent=app),
                app.authentication_class(parent=app),
            )
            found.images.level  # noqa: B018 - it is checked when it is read
        except TraitError as error:
            raise ConfigurationError(app.located(str(error))) from error
        found.check()
        return found

    @classmethod
    def read(cls, arguments: Sequence[str]) -> "Configuration":
        """Reads it anew. Raises `ConfigurationError` that says where it is wrong, and no other."""
        app = CondaStoreServer()
        try:
            app.read(list(arguments))
            return cls.of(app)
        except ConfigurationError:
            raise
        except (Exception, SystemExit) as error:
            # The file may leave the program, and classes of the operator's own raise anything.
            raise ConfigurationError(f"{type(error).__name__}: {error}") from error

    def check(self) -> None:
        """Raises `ConfigurationError` for what does not fit together."""
        self.authentication.check()
        if bool(self.app.certfile) != bool(self.app.keyfile):
            raise ConfigurationError(
                "c.CondaStoreServer.certfile and c.CondaStoreServer.keyfile go together: set both"
            )
        policy = self.policy()
        for entry in self.backend.predefined_tokens.values():
            bindings = entry.get("role_bindings", {})
            _checked("c.AuthenticationBackend.predefined_tokens", policy.checked, bindings)
        self.settings()

    @property
    def parts(self) -> Iterator[Configurable]:
        """All that have settings."""
        yield self.app
        yield self.store
        yield self.worker
        yield self.images
        yield self.registry
        yield self.backend
        yield self.roles
        yield self.authentication

    def policy(self) -> AccessPolicy:
        """Returns who may do what. Raises `ConfigurationError`."""
        roles = self.roles
        policy: AccessPolicy = _checked(
            "c.RBACAuthorizationBackend",
            AccessPolicy.of,
            roles.role_mappings,
            roles.unauthenticated_role_bindings,
            roles.authenticated_role_bindings,
        )
        return policy

    def settings(self) -> Settings:
        """Returns the settings that the configuration starts with. Raises `ConfigurationError`."""
        try:
            return configured(self.store)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"c.CondaStore: {error}") from error

    def take_over(self, new: "Configuration") -> list[str]:
        """Takes over what can change while the daemon runs, and returns the names of that.

        What has changed besides is named by a warning.
        """
        taken = []
        for old_part, new_part in zip(self.parts, new.parts, strict=True):
            section = type(old_part).__name__
            if type(old_part) is not type(new_part):
                # The trait that names the class says so.
                continue
            for name in sorted(_differing(old_part, new_part)):
                if name in LIVE.get(section, ()):
                    setattr(old_part, name, getattr(new_part, name))
                    taken.append(f"{section}.{name}")
                else:
                    logger.warning("%s.%s has changed: restart to make it count", section, name)
        known = {type(part).__name__ for part in self.parts}
        for section in sorted((self.app.config.keys() | new.app.config.keys()) - known):
            if self.app.config.get(section) != new.app.config.get(section):
                logger.warning("settings of %s have changed: restart to make them count", section)
        return taken


def _differing(old: Configurable, new: Configurable) -> set[str]:
    names = set(old.trait_names(config=True)) - {"config_file"}
    return {name for name in names if not _same(getattr(old, name), getattr(new, name))}


def _same(old: Any, new: Any) -> bool:
    """Whether two values are the same; functions are if they are written the same."""
    if isinstance(old, list | tuple) and isinstance(new, list | tuple):
        return len(old) == len(new) and all(map(_same, old, new))
    if inspect.isfunction(old) and inspect.isfunction(new):
        return bool(old.__code__ == new.__code__)
    return bool(old == new)


def _checked(name: str, make: Any, *values: Any) -> Any:
    try:
        return make(*values)
    except InvalidInput as error:
        raise ConfigurationError(f"{name}: {error}") from error
