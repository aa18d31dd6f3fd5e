"""What an operator can set of container images: how they are made, and how they are served."""

import re
from typing import Any

from traitlets import Bool, Enum, Float, Integer, List, TraitError, Unicode, validate
from traitlets.config import LoggingConfigurable

from condastore.configuration import GIB
from condastore.oci import is_repository

# Text with the prefix in it grows by this; a package's own placeholder is 255 characters long.
MAX_IMAGE_PREFIX = 64


class Images(LoggingConfigurable):
    """How container images of builds are made; docs/images.md explains."""

    base = Unicode(
        "host",
        help="""What images stand on: `host`, this machine's own C library and shell; the absolute
        path of an OCI layout, oci-archive or docker-archive; or a reference such as
        `registry.example.org/debian:12-slim`, which is fetched once and kept.""",
    ).tag(config=True)

    host_libraries = Bool(
        True,
        help="""With the base `host`, take along libraries of this machine that packages need and
        no package brings.""",
    ).tag(config=True)

    prefix = Unicode(
        "/opt/env",
        help="""Where the environment is inside an image. Another one makes every layer anew.""",
    ).tag(config=True)

    compression = Enum(
        ["gzip", "zstd"],
        "gzip",
        help="""How layers are compressed. `zstd` is smaller and faster, and needs docker 23,
        containerd 1.5 or podman.""",
    ).tag(config=True)

    compression_level = Integer(
        None,
        allow_none=True,
        help="""Effort of the compression: 0 to 3 for gzip (default 2), 1 to 19 for zstd
        (default 3).""",
    ).tag(config=True)

    layer_budget = Integer(
        80,
        min=2,
        max=110,
        help="""Layers of packages that an image may have; the smallest packages beyond that share
        one. Docker takes 125 in all, of which 20 are left for Dockerfiles that begin with the
        image.""",
    ).tag(config=True)

    entrypoint = List(
        Unicode(),
        None,
        allow_none=True,
        help="""Entrypoint of images. Default: one that runs the packages' activation scripts, where
        there are any, and else none.""",
    ).tag(config=True)

    command = List(
        Unicode(), ["/bin/sh", "-l"], help="What a container runs unless it is told otherwise."
    ).tag(config=True)

    user = Unicode("", help="User that containers run as. Default: the base's, or root.").tag(
        config=True
    )

    @validate("prefix")
    def _path(self, proposal: Any) -> str:
        path = str(proposal["value"]).rstrip("/")
        if not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", path) or len(path) > MAX_IMAGE_PREFIX:
            raise TraitError(
                f"Images.prefix: {path!r} is not an absolute path of at most {MAX_IMAGE_PREFIX} "
                "letters, digits, dots, dashes and underscores"
            )
        if ".." in path.split("/") or "." in path.split("/"):
            raise TraitError(f"Images.prefix: {path!r} is not a plain path")
        return path

    @property
    def level(self) -> int:
        """The effort of the compression. Raises `TraitError` if the codec has no such level."""
        least, most, usual = (1, 19, 3) if self.compression == "zstd" else (0, 3, 2)
        level = usual if self.compression_level is None else self.compression_level
        if not least <= level <= most:
            raise TraitError(
                f"Images.compression_level: {level} is not between {least} and {most}, as "
                f"{self.compression} needs"
            )
        return int(level)


class ContainerRegistry(LoggingConfigurable):
    """The container registry at `/v2/`: pulling, images on demand, and what is kept of images."""

    hold_time = Float(
        50.0,
        help="""Seconds for which a request for an image that is being made is held open before its
        client is sent to the same place again. Proxies often end silent requests after 60.""",
    ).tag(config=True)

    max_redirects = Integer(
        9,
        min=0,
        max=9,
        help="How often that is done, before the client is told to come back; it follows nine.",
    ).tag(config=True)

    max_waiting = Integer(500, min=1, help="Requests that wait for images at once.").tag(
        config=True
    )

    retry_failed_after = Float(
        600.0,
        help="""Seconds for which an image that could not be made is not tried again, however often
        it is pulled.""",
    ).tag(config=True)

    token_lifetime = Integer(
        600,
        min=60,
        max=3600,
        help="""Seconds for which a token for pulling is good, also when its client has to wait for
        an image; a revoked token of the API ends as a password at once, and in what was made from
        it after this.""",
    ).tag(config=True)

    on_demand = Bool(
        True,
        help="""Make images that are named by what is in them, for whoever may create environments
        in the namespace of images on demand.""",
    ).tag(config=True)

    on_demand_namespace = Unicode("conda-store-dynamic", help="Namespace of images on demand.").tag(
        config=True
    )

    on_demand_lifetime = Float(
        24 * 3600.0,
        help="Seconds after which the tag `latest` of an image on demand is solved anew.",
    ).tag(config=True)

    max_on_demand_packages = Integer(
        20, min=1, help="Packages that the name of an image on demand may ask for."
    ).tag(config=True)

    max_on_demand_builds = Integer(
        4, min=1, help="Builds of images on demand that wait or run at once for one user."
    ).tag(config=True)

    blob_grace = Float(
        24 * 3600.0,
        min=0,
        help="""Seconds for which a blob stays when nothing needs it any more; longer than any pull,
        and than the making of any image.""",
    ).tag(config=True)

    unknown_blob_grace = Float(
        14 * 24 * 3600.0,
        min=0,
        help="""Seconds for which a stored blob stays that the database does not know. A crash
        leaves such blobs, and a database that is restored from a backup knows none of those that
        were made since: longer than backups are kept, and than it takes to notice.""",
    ).tag(config=True)

    pull_grace = Float(
        3600.0,
        min=0,
        help="Seconds for which an image stays after its last pull when its build is deleted.",
    ).tag(config=True)

    collect_every = Float(
        24 * 3600.0, help="Seconds after which unneeded blobs are collected, besides deletions."
    ).tag(config=True)

    layer_cache_bytes = Integer(
        10 * GIB,
        min=0,
        help="Bytes of layers that are kept for images to come, beyond those that images have.",
    ).tag(config=True)

    @validate("on_demand_namespace")
    def _repository_component(self, proposal: Any) -> str:
        name: str = proposal["value"]
        if not is_repository(name) or "/" in name:
            raise TraitError(
                f"ContainerRegistry.on_demand_namespace: {name!r} can't be in the name of an image"
            )
        return name
