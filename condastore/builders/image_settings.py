"""What containers of an image start with, and what the image says about itself."""

from collections.abc import Mapping
from typing import Any

from condastore.builders.image_bases import Base
from condastore.builders.image_contents import Contents
from condastore.configuration import Images
from condastore.manifests import CREATED, Settings

ACTIVATION = "etc/condastore/activate.sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def settings_of(images: Images) -> dict[str, Any]:
    """Returns the settings of images that change what is in one."""
    names = ("prefix", "compression", "level", "layer_budget", "entrypoint", "command", "user")
    return {name: getattr(images, name) for name in (*names, "host_libraries")}


def image_settings(
    images: Images, contents: Contents, base: Base, result: Mapping[str, Any], *, bytecode: bool
) -> Settings:
    """Returns what the image of a platform is set to; `result` is that of its job."""
    return Settings(
        environment=_environment(images.prefix, contents, base, result),
        command=list(images.command),
        entrypoint=_entrypoint(images, result),
        user=images.user,
        labels=_labels(contents, base, result, bytecode=bytecode),
    )


def _environment(
    prefix: str, contents: Contents, base: Base, result: Mapping[str, Any]
) -> dict[str, str]:
    certificates = {"SSL_CERT_FILE": f"{prefix}/ssl/cacert.pem"} if result["certificates"] else {}
    return {
        "LANG": "C.UTF-8",
        **certificates,
        **contents.variables,
        "PATH": f"{prefix}/bin:{base.path or PATH}",
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": prefix,
        "CONDA_SHLVL": "1",
    }


def _entrypoint(images: Images, result: Mapping[str, Any]) -> list[str]:
    if images.entrypoint is not None:
        return list(images.entrypoint)
    if result["activates"]:
        return ["/bin/sh", "-c", f'. {images.prefix}/{ACTIVATION} && exec "$@"', "sh"]
    return []


def _labels(
    contents: Contents, base: Base, result: Mapping[str, Any], *, bytecode: bool
) -> dict[str, str]:
    labels = {
        "org.opencontainers.image.created": CREATED,
        "org.opencontainers.image.base.name": base.name,
        "org.condastore.lockfile": contents.lock_hash,
    }
    if not bytecode:
        labels["org.condastore.bytecode"] = "none: the server has no Python of this version"
    if result["glibc"]:
        labels["org.condastore.glibc"] = result["glibc"]
    if result["scripts_not_run"]:
        labels["org.condastore.scripts-not-run"] = " ".join(result["scripts_not_run"])
    return labels
