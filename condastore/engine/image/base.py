"""The role `base`: what an image stands on, below the packages."""

from pathlib import Path
from typing import Any

from condastore.engine.events import Events
from condastore.engine.failures import not_here
from condastore.engine.jobs import BaseJob

HOST = "host"


def find_base(job: BaseJob, events: Events) -> None:
    """Puts the layers of a base into a directory, and says what they are.

    The result has `layers` from the bottom up; `config`, the image's own configuration; `glibc`, if
    it is known; `sources`, the files of this machine that it was made of; and a `name`.
    """
    events.phase("base")
    reference, directory = job["reference"], Path(job["blobs_dir"])
    found: dict[str, Any]
    if reference == HOST:
        from condastore.engine.image.host_base import host_base

        found = host_base(job["platform"], job["codec"], job["level"], directory)
    elif reference.startswith("/"):
        from condastore.engine.image.stored_base import stored_base

        found = stored_base(job, directory)
    elif job["offline"]:
        raise not_here(f"the base of images, {reference}")
    else:
        from condastore.engine.image.remote_base import remote_base

        found = remote_base(job, directory)
    events.result(**found)
