"""What an operator can set: traitlets classes with the names of conda-store (rest-api §14).

A default that depends on the machine or on another trait is computed; its help says how.
"""

import os
import platform as machine
import sys
from pathlib import Path
from typing import Any

import traitlets
from platformdirs import user_data_path
from traitlets import Bool, Dict, Enum, Float, Integer, List, TraitError, Unicode, default, validate
from traitlets.config import LoggingConfigurable

from condastore.access import DEFAULT_ROLES
from condastore.builds import ArtifactType

MIB = 1024**2
GIB = 1024**3

_SUBDIRS = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("linux", "ppc64le"): "linux-ppc64le",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
}


def server_platform() -> str:
    """Returns the conda subdir of this machine, such as `linux-64`."""
    key = (sys.platform, machine.machine())
    if key not in _SUBDIRS:
        raise TraitError(f"condastore does not run on {key[0]} {key[1]}")
    return _SUBDIRS[key]


class CondaStore(LoggingConfigurable):
    """Where things are kept, and how environments are solved and built."""

    # Places

    data_directory = Unicode(
        help="""Directory of the database, logs, artifacts and the secret. Default: the user's
        data directory for `condastore`, such as `~/.local/share/condastore`.""",
    ).tag(config=True)

    store_directory = Unicode(
        help="""Directory of the built environments and of the package store, which should share one
        file system so that packages can be hard-linked; else environments have copies, and so where
        the file system has no hard links. Default: `{data_directory}/state`.""",
    ).tag(config=True)

    build_directory = Unicode(
        "{store_directory}/{namespace}",
        help="""Template of the directory that holds a build's prefix. Keys: store_directory,
        namespace.""",
    ).tag(config=True)

    environment_directory = Unicode(
        "{store_directory}/{namespace}/envs/{name}",
        help="""Template of the symbolic link that points to an environment's current build. Keys:
        store_directory, namespace, name.""",
    ).tag(config=True)

    build_key_version = Integer(
        2,
        min=1,
        max=3,
        help="""Form of the build keys: 1 (full hash and time), 2 (short hash and seconds), or
        3 (32 hexadecimal digits; no namespace in the path and no environment link).""",
    ).tag(config=True)

    database_url = Unicode(
        help="SQLAlchemy URL of the database. Default: `sqlite:///{data_directory}/condastore.sqlite`.",
    ).tag(config=True)

    redis_url = Unicode(
        None,
        allow_none=True,
        help="""URL of a Redis through which daemons on one PostgreSQL show each other's live logs,
        and settle who watches files, such as `redis://:PASSWORD@host:6379/0`. Default: such logs
        come when their builds end.""",
    ).tag(config=True)

    log_stream_bytes = Integer(
        4 * MIB, min=64 * 1024, help="Bytes of one build's log that Redis holds at most."
    ).tag(config=True)

    database_connections = Integer(
        10, min=3, help="Connections to PostgreSQL that this daemon opens at most."
    ).tag(config=True)

    upgrade_db = Bool(True, help="Bring the database's schema up to date at start.").tag(
        config=True
    )

    storage_class = traitlets.Type(
        "condastore.storage.LocalStorage",
        klass="condastore.storage.Storage",
        help="Where artifacts are kept: a class or its import path.",
    ).tag(config=True)

    storage_threshold = Integer(
        5 * GIB,
        help="""Bytes that must be free on the store's file system to create or update an
        environment.""",
    ).tag(config=True)

    # Engine

    conda_command = Unicode(
        "rattler",
        help="""What solves and installs: `rattler`, the bundled engine, or the name or path of
        `conda`, `mamba` or `micromamba`.""",
    ).tag(config=True)

    conda_flags = Unicode(
        "--strict-channel-priority", help="Extra arguments for an external conda command's solve."
    ).tag(config=True)

    conda_max_solve_time = Integer(300, help="Seconds that one solve may take.").tag(config=True)

    conda_solve_platforms = List(
        Unicode(),
        help="Platforms that a lockfile covers besides the server's own.",
    ).tag(config=True)

    conda_platforms = List(
        Unicode(),
        help="""Platforms of which channels are indexed, besides `noarch`. Default: the server's
        own.""",
    ).tag(config=True)

    conda_channel_alias = Unicode(
        "https://conda.anaconda.org", help="URL before a channel that is given by its bare name."
    ).tag(config=True)

    conda_default_channels = List(
        Unicode(), ["conda-forge"], help="Channels of a specification that names none."
    ).tag(config=True)

    conda_allowed_channels = List(
        Unicode(), help="Channels that a specification may name; empty allows all."
    ).tag(config=True)

    conda_indexed_channels = List(
        Unicode(),
        ["main", "conda-forge", "https://repo.anaconda.com/pkgs/main"],
        help="Channels whose packages can be searched: names or URLs.",
    ).tag(config=True)

    conda_default_packages = List(
        Unicode(), help="Dependencies of a specification that names none."
    ).tag(config=True)

    conda_required_packages = List(
        Unicode(), help="Package names that every specification must contain."
    ).tag(config=True)

    conda_included_packages = List(
        Unicode(), help="Dependencies that are added to specifications that lack them."
    ).tag(config=True)

    pypi_default_packages = List(
        Unicode(), help="Pip requirements of a specification that has none."
    ).tag(config=True)

    pypi_required_packages = List(
        Unicode(), help="PyPI project names that every specification must contain."
    ).tag(config=True)

    pypi_included_packages = List(
        Unicode(), help="Pip requirements that are added to specifications that lack them."
    ).tag(config=True)

    pip_allow_sdists = Bool(
        False,
        help="""Let `pip:` requirements be built from source distributions. Building one runs its
        author's code as the daemon's user; wheels run none.""",
    ).tag(config=True)

    pip_index_url = Unicode(
        None,
        allow_none=True,
        help="""Package index of `pip:` sections that name none. Default: what the machine's
        configuration of uv says, or else PyPI.""",
    ).tag(config=True)

    offline = Bool(
        False,
        help="""Whether nothing is fetched from channels, package indexes and the registries of
        base images: environments are made of channels on this machine, and of what was fetched
        before.""",
    ).tag(config=True)

    channel_credentials = List(
        Dict(),
        help="""Credentials of private channels and package indexes, kept out of every log and
        lockfile: a list of `{"url": prefix, ...}` with `"token"` (an anaconda token), `"bearer"`,
        or `"username"` and `"password"`.""",
    ).tag(config=True)

    repodata_ttl = Integer(
        120, help="Seconds for which a solver trusts the channel data that it holds."
    ).tag(config=True)

    run_link_scripts = Bool(
        False,
        help="""Run the packages' post-link scripts. They run as the daemon's user, with all that
        it may do. One that fails fails its build.""",
    ).tag(config=True)

    compile_bytecode = Bool(
        True, help="Compile Python packages once and link the byte code into environments."
    ).tag(config=True)

    # Result

    default_namespace = Unicode("default", help="Namespace of requests that name none.").tag(
        config=True
    )

    filesystem_namespace = Unicode(
        "filesystem",
        help="Namespace of environments that come from watched files.",
    ).tag(config=True)

    default_uid = Integer(
        None, allow_none=True, help="Owner of built files. Default: the daemon's user."
    ).tag(config=True)

    default_gid = Integer(
        None, allow_none=True, help="Group of built files. Default: the daemon's group."
    ).tag(config=True)

    default_permissions = Unicode(
        "775",
        allow_none=True,
        help="""Octal mode of directories and executable files in a build; files shared between
        builds by hard links stay read-only.""",
    ).tag(config=True)

    build_artifacts = List(
        Unicode(),
        ["LOCKFILE", "YAML", "CONDA_PACK"],
        help="""Artifacts that are made of every build: `LOCKFILE`, `YAML`, `CONDA_PACK` (an
        archive), `CONSTRUCTOR_INSTALLER`, `DOCKER_MANIFEST` (an image). The others are made when
        somebody asks for them.""",
    ).tag(config=True)

    archive_format = Enum(
        ["tar.gz", "tar.zst"],
        "tar.gz",
        help="""Compression of archives: `tar.gz`, which every tool reads, or `tar.zst`, which is
        smaller and sooner unpacked.""",
    ).tag(config=True)

    max_fragments_bytes = Integer(
        8 * GIB,
        help="""Bytes of packed packages that are kept for the archives to come; those that were
        not used for longest go first.""",
    ).tag(config=True)

    build_artifacts_kept_on_deletion = List(
        Unicode(),
        ["LOGS", "LOCKFILE", "YAML"],
        help="Artifacts that stay when a build is deleted.",
    ).tag(config=True)

    # Hooks

    validate_specification = traitlets.Callable(
        None, allow_none=True, help="Called with what is posted (docs/hooks.md)."
    ).tag(config=True)

    validate_action = traitlets.Callable(
        None, allow_none=True, help="Called before an environment is made or changed."
    ).tag(config=True)

    post_update_environment_build_hook = traitlets.Callable(
        None, allow_none=True, help="Called when an environment has another build."
    ).tag(config=True)

    hook_timeout = Float(30.0, help="Seconds that a hook may take.").tag(config=True)

    # What is kept of who did what

    audit_days = Integer(
        365, min=1, help="Days for which the audit log keeps who changed what."
    ).tag(config=True)

    audit_entries = Integer(
        100_000, min=1, help="Entries that the audit log has at most; the oldest go first."
    ).tag(config=True)

    # Limits

    max_specification_bytes = Integer(MIB, help="Bytes of a specification's text.").tag(config=True)

    max_lockfile_bytes = Integer(16 * MIB, help="Bytes of a posted lockfile's text.").tag(
        config=True
    )

    max_log_bytes = Integer(
        64 * MIB, help="Bytes of a build's log; what comes after is left out, and the log says so."
    ).tag(config=True)

    max_package_bytes = Integer(
        16 * GIB, help="Bytes that one package may take when it is unpacked."
    ).tag(config=True)

    max_package_files = Integer(500_000, help="Files that one package may hold.").tag(config=True)

    max_build_time = Integer(
        4 * 3600, help="Seconds that a build may take, from its start to its end."
    ).tag(config=True)

    max_build_memory = Integer(
        16 * GIB,
        min=4 * GIB,
        help="Bytes of address space that each child process of a build may use, the solver's too.",
    ).tag(config=True)

    min_free_bytes = Integer(
        256 * MIB,
        help="""Bytes that must stay free on each file system that condastore writes to. With less
        nothing begins that takes space (docs/operations.md).""",
    ).tag(config=True)

    min_free_inodes = Integer(
        1000, help="Files that there must be room for on each of these file systems."
    ).tag(config=True)

    @default("data_directory")
    def _data_directory(self) -> str:
        return str(user_data_path("condastore", appauthor=False))

    @default("store_directory")
    def _store_directory(self) -> str:
        return str(Path(self.data_directory) / "state")

    @default("database_url")
    def _database_url(self) -> str:
        return f"sqlite:///{Path(self.data_directory) / 'condastore.sqlite'}"

    @default("conda_solve_platforms")
    def _conda_solve_platforms(self) -> list[str]:
        return [server_platform()]

    @default("conda_platforms")
    def _conda_platforms(self) -> list[str]:
        return [server_platform(), "noarch"]

    @default("default_uid")
    def _default_uid(self) -> int:
        return os.getuid()

    @default("default_gid")
    def _default_gid(self) -> int:
        return os.getgid()

    @validate("data_directory", "store_directory")
    def _absolute(self, proposal: Any) -> str:
        return str(Path(proposal["value"]).expanduser().absolute())

    @validate("default_permissions")
    def _octal(self, proposal: Any) -> str | None:
        mode: str | None = proposal["value"]
        if mode is not None and (not mode or len(mode) > 4 or set(mode) - set("01234567")):
            raise TraitError(f"CondaStore.default_permissions: {mode!r} is not an octal mode")
        return mode

    @validate("build_artifacts", "build_artifacts_kept_on_deletion")
    def _known_artifacts(self, proposal: Any) -> list[str]:
        names: list[str] = proposal["value"]
        unknown = sorted(set(names) - set(ArtifactType.__members__))
        if unknown:
            raise TraitError(f"CondaStore.{proposal['trait'].name}: unknown artifacts {unknown}")
        return names


class CondaStoreWorker(LoggingConfigurable):
    """How the task pool runs builds, and what it builds by itself."""

    watch_paths = List(
        Unicode(),
        help="""Files, and directories of `*.yml` and `*.yaml` files, each an environment of the
        namespace `filesystem_namespace`, built again when its file changes.""",
    ).tag(config=True)

    concurrency = Integer(
        None, allow_none=True, min=1, help="Builds that run at once. Default: the number of CPUs."
    ).tag(config=True)

    artifact_concurrency = Integer(
        1, min=1, help="Archives, installers and images that are made at once."
    ).tag(config=True)

    drain_timeout = Float(
        30.0,
        help="""Seconds that running builds get to finish after SIGTERM; then they go back to the
        queue and start again with the next daemon.""",
    ).tag(config=True)

    max_attempts = Integer(
        3,
        min=1,
        help="""Times that a task is tried that fails for a reason that may pass, such as a
        database that is away. One during which the daemon dies twice is given up in any case.""",
    ).tag(config=True)

    warm_solvers = Integer(
        1, min=0, help="Solver processes that are kept ready between solves."
    ).tag(config=True)

    solver_idle_time = Float(300.0, help="Seconds after which an unused solver process ends.").tag(
        config=True
    )

    max_solver_memory = Integer(
        GIB, help="Resident bytes above which a solver process is replaced after its solve."
    ).tag(config=True)

    index_interval = Float(
        900.0,
        min=0,
        help="""Seconds between looks for news in the indexed channels; 0 never looks.""",
    ).tag(config=True)

    removal_rate = Float(
        5000.0,
        min=0,
        help="""Files a second that the removal of deleted builds takes away, so that builds are not
        held up by it; 0 is as many as can be, and so it is while the disk is full.""",
    ).tag(config=True)

    max_solver_uses = Integer(200, help="Solves after which a solver process is replaced.").tag(
        config=True
    )

    @default("concurrency")
    def _concurrency(self) -> int:
        return len(os.sched_getaffinity(0))


class AuthenticationBackend(LoggingConfigurable):
    """How callers prove who they are."""

    secret = Unicode(
        help="""Secret that tokens are made from. Default: 32 random bytes, made once and kept in
        `{data_directory}/secret`.""",
    ).tag(config=True)

    jwt_algorithm = Enum(
        ["HS256", "HS384", "HS512"], "HS256", help="Algorithm that tokens are signed with."
    ).tag(config=True)

    predefined_tokens = Dict(
        help="""Tokens that work besides those that are given out: a dictionary of the token's text
        to `{"primary_namespace": name, "role_bindings": {pattern: [role, ...]}}`.""",
    ).tag(config=True)

    @validate("predefined_tokens")
    def _entries(self, proposal: Any) -> dict[str, Any]:
        tokens: dict[str, Any] = proposal["value"]
        if not all(isinstance(entry, dict) for entry in tokens.values()):
            raise TraitError(
                "AuthenticationBackend.predefined_tokens: each value must be a dictionary with "
                "primary_namespace and role_bindings"
            )
        return tokens


class RBACAuthorizationBackend(LoggingConfigurable):
    """Who may do what: roles, and where everybody has which."""

    role_mappings = Dict(
        DEFAULT_ROLES,
        help="Permissions of each role; docs/security.md lists them.",
    ).tag(config=True)

    role_mappings_version = Enum(
        [1, 2],
        1,
        help="""Which role mappings of namespaces count: 1, what `PUT /namespace/NAME/` gives to the
        users whose primary namespace is NAME; or 2, to whom `POST /namespace/NAME/role` opens
        NAME.""",
    ).tag(config=True)

    unauthenticated_role_bindings = Dict(
        {"default/*": ["viewer"]}, help="Roles of whoever has not signed in, by arn pattern."
    ).tag(config=True)

    authenticated_role_bindings = Dict(
        {"default/*": ["viewer"], "filesystem/*": ["viewer"]},
        help="Roles of everybody who has signed in, by arn pattern.",
    ).tag(config=True)
