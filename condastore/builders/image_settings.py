"""What containers of an image start with, and what the image says about itself."""

from collections.abc import Mapping
from typing import Any

from condastore.builders.image_bases import Base
from condastore.builders.image_contents import Contents
from condastore.image_configuration import Images
from condastore.manifests import CREATED, Settings

ACTIVATION = "etc/condastore/activate.sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def settings_of(images: Images) -> dict[str, Any]:
    """Returns the settings of images that change what is in one."""
    names = ("prefix", "compression", "level", "layer_budget", "entrypoint", "command", "user")
    return {name: getattr(images, name) for name in (*names, "host_libraries")}


def image_settings(
    images: Images, contents: Contents, base: Base, facts: Mapping[str, Any]
) -> Settings:
    """Returns what the image of a platform is set to.

    The facts are the result of its job, whether it has `bytecode`, and which platforms are
    `left_out` with it.
    """
    return Settings(
        environment=_environment(images.prefix, contents, base, facts),
        command=list(images.command),
        entrypoint=_entrypoint(images, facts),
        user=images.user,
        labels=_labels(contents, base, facts),
    )


def _environment(
    prefix: str, contents: Contents, base: Base, facts: Mapping[str, Any]
) -> dict[str, str]:
    certificates = {"SSL_CERT_FILE": f"{prefix}/ssl/cacert.pem"} if facts["certificates"] else {}
    return {
        "LANG": "C.UTF-8",
        **certificates,
        **contents.variables,
        "PATH": f"{prefix}/bin:{base.path or PATH}",
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": prefix,
        "CONDA_SHLVL": "1",
    }


def _entrypoint(images: Images, facts: Mapping[str, Any]) -> list[str]:
    if images.entrypoint is not None:
        return list(images.entrypoint)
    if facts["activates"]:
        return ["/bin/sh", "-c", f'. {images.prefix}/{ACTIVATION} && exec "$@"', "sh"]
    return []


def _labels(contents: Contents, base: Base, facts: Mapping[str, Any]) -> dict[str, str]:
    labels = {
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.base.name": base.name,
        "org.condastore.lockfile": contents.lock_hash,
    }
    if not facts["bytecode"]:
        labels["org.condastore.bytecode"] = "none: the server has no Python of this version"
    if facts["glibc"]:
        labels["org.condastore.glibc"] = facts["glibc"]
    if facts["scripts_not_run"]:
        labels["org.condastore.scripts-not-run"] = " ".join(facts["scripts_not_run"])
    if facts["left_out"]:
        reasons = (f"{platform} ({why})" for platform, why in facts["left_out"].items())
        labels["org.condastore.left-out"] = ", ".join(reasons)
    return labels
