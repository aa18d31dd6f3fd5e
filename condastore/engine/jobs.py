"""The jobs that the daemon hands to a child, as it writes them on the child's standard input."""

from typing import Any, NotRequired, TypedDict

Record = dict[str, Any]
"""One package: the keys of repodata plus `channel`, `url` and `fn`. From a user's lockfile only
`name`, `version`, `url`, `subdir`, `depends` and a hash are certain."""


class Credential(TypedDict):
    """How to log in below one URL: by conda token, user name and password, or bearer token."""

    url: str
    token: NotRequired[str]
    username: NotRequired[str]
    password: NotRequired[str]
    bearer: NotRequired[str]


class Connections(TypedDict):
    """What every job says that fetches anything; `offline` is whether it must do without."""

    credentials: list[Credential]
    offline: bool


class Limits(TypedDict):
    """What one build may use; `stall_s` is how long a server may send (next to) nothing."""

    package_bytes: int
    package_files: int
    memory_bytes: int
    disk_free_bytes: int
    stall_s: NotRequired[float]


class PackLimits(TypedDict):
    """What packing may use; beyond `fragments_bytes` old fragments are removed at its end."""

    memory_bytes: NotRequired[int]
    fragments_bytes: NotRequired[int]


class SolveLimits(TypedDict):
    """What a solve may use."""

    memory_bytes: int


class SolveJob(Connections):
    """Find the packages of an environment for each platform.

    `exclude_newer` is a day, YYYY-MM-DD: packages since then, or of unknown age, don't count.
    """

    engine: str
    channels: list[str]
    specs: list[str]
    platforms: list[str]
    virtual_packages: dict[str, list[list[str]]]
    cuda: str | None
    exclude_newer: NotRequired[str | None]
    timeout_s: float
    repodata_cache: str
    repodata_ttl_s: float
    limits: NotRequired[SolveLimits]
    flags: list[str]


class BuildJob(Connections):
    """Make one prefix out of a list of packages."""

    engine: str
    name: str
    prefix: str
    packages_dir: str
    records: list[Record]
    specs: list[str]
    channels: list[str]
    variables: dict[str, str]
    pip: dict[str, Any] | None
    pip_locked: list[dict[str, Any]] | None
    pip_only_binary: bool
    permissions: str | None
    uid: int | None
    gid: int | None
    link_scripts: bool
    bytecode: bool
    fetch_concurrency: int
    limits: Limits


class ImageLayer(TypedDict):
    """A layer that is known already, or is to be made of some of the job's records."""

    key: str
    packages: list[int]
    known: bool


class ImageJob(Connections):
    """Make the layers of an image for one platform.

    `layers` are from the bottom up, without the base's. `python_prefix` has a Python that makes
    byte code; `pip` is the build's `prefix` and the `names` of the pip packages in it.
    """

    packages_dir: str
    blobs_dir: str
    prefix: str
    records: list[Record]
    layers: list[ImageLayer]
    codec: str
    level: int
    python_prefix: str | None
    pip: dict[str, Any] | None
    variables: dict[str, str]
    host_libraries: bool
    glibc: str | None
    fetch_concurrency: int
    limits: Limits


class BaseJob(Connections):
    """Find the layers that an image stands on, for one platform."""

    reference: str
    platform: str
    blobs_dir: str
    codec: str
    level: int


class InventoryJob(TypedDict):
    """Write bills of materials of an environment."""

    name: str
    packages_dir: str
    output_dir: str
    packages: dict[str, list[Record]]
    pip: dict[str, list[Record]]


class FetchJob(Connections):
    """What every job says that fetches packages."""

    records: list[Record]
    limits: Limits
    fetch_concurrency: int


class RemoveJob(TypedDict):
    """Remove trees, so many files a second; 0 is as many as can be."""

    paths: list[str]
    files_per_s: NotRequired[float]


class SweepJob(TypedDict):
    """Remove what dead builds left in the package store."""

    packages_dir: str


class VerifyJob(TypedDict):
    """Compare packages of the store, or all of them, with their own lists of files."""

    packages_dir: str
    packages: NotRequired[list[str]]


class PackJob(TypedDict):
    """Make one file out of a prefix, with packages that were packed before if `fragments`."""

    prefix: str
    packages_dir: str
    output: str
    fragments: bool
    limits: PackLimits


class ArchiveJob(PackJob):
    """Make an archive: `format` is `tar.gz` or `tar.zst`."""

    format: str


class InstallerJob(PackJob):
    """Make an installer of an environment that has a name and a version."""

    name: str
    version: str


class IndexLimits(TypedDict):
    """How much of a channel is taken, before it is refused; in bytes, and records."""

    memory_bytes: int
    download_bytes: int
    document_bytes: int
    records: int
    stall_s: NotRequired[float]


class IndexJob(Connections):
    """Bring the channel `refresh`, which is at `source`, up to date in the package index.

    Other channels than `channels` leave it.
    """

    index: str
    channels: list[str]
    refresh: str | None
    source: str | None
    subdirs: list[str]
    limits: IndexLimits
