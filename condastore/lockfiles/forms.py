"""The forms of a lockfile: which there are, how one is recognised, and how one is made."""

from enum import StrEnum
from typing import NamedTuple

from condastore import documents, yaml_text
from condastore.channels import check_subdir
from condastore.errors import InvalidInput
from condastore.lockfiles import conda_lock, explicit, pixi
from condastore.lockfiles.conda_lock import Lockfile
from condastore.names import shorten


class Form(StrEnum):
    """A form in which a lockfile is given besides that in which it is stored."""

    CONDA_LOCK = "conda-lock.yml"
    EXPLICIT = "explicit"
    PIXI = "pixi"


MEDIA_TYPES = {
    Form.CONDA_LOCK: "text/yaml",
    Form.EXPLICIT: "text/plain",
    Form.PIXI: "text/yaml",
}


class Read(NamedTuple):
    """A lockfile, and whether its form may have left out what conda-lock's says."""

    lockfile: Lockfile
    is_partial: bool


def read(text: str, limits: documents.Limits, platform: str) -> Read:
    """The lockfile in a text of any form, or `InvalidSpecification` with the reason.

    An explicit file that names no platform is for `platform`.
    """
    if explicit.is_explicit(text, limits):
        return Read(explicit.parse(text, limits, platform), True)
    value = documents.load(text, limits)
    if isinstance(value, dict) and pixi.is_pixi(value):
        return Read(pixi.from_value(value), True)
    return Read(conda_lock.from_value(value), False)


def check_wanted(form: Form | None, platform: str | None) -> None:
    """Refuses a platform that is none, or of a form that is of all platforms."""
    if platform is None:
        return
    check_subdir(platform)
    if form is not Form.EXPLICIT:
        raise InvalidInput(
            f"A platform can be chosen for the format {Form.EXPLICIT} only; others hold all"
        )


def render(lockfile: Lockfile, form: Form, platform: str) -> str:
    """The text of a lockfile in a form; `platform` counts where the form is of one platform.

    Raises `InvalidInput` if the lockfile is not for it.
    """
    match form:
        case Form.CONDA_LOCK:
            return yaml_text.dump(lockfile.as_dict())
        case Form.PIXI:
            return pixi.render(lockfile)
        case Form.EXPLICIT:
            if platform not in lockfile.platforms:
                known = shorten(", ".join(lockfile.platforms)) or "none"
                raise InvalidInput(f"The lockfile is not for platform {platform}, but for {known}")
            return explicit.render(lockfile, platform)


def file_name(environment: str, form: Form, platform: str) -> str:
    """What the tool that reads a form would have its file be called."""
    match form:
        case Form.CONDA_LOCK:
            return f"{environment}.conda-lock.yml"
        case Form.PIXI:
            return "pixi.lock"
        case Form.EXPLICIT:
            return f"{environment}-{platform}.txt"
