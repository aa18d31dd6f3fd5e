"""The archive's role: from a prefix to a file that conda-pack could have made."""

from pathlib import Path

from condastore.engine.events import Events
from condastore.engine.jobs import ArchiveJob
from condastore.engine.pack.assembly import assembly
from condastore.engine.pack.output import output


def archive(job: ArchiveJob, events: Events) -> None:
    """Packs the prefix of a job into one file, or leaves none."""
    with (
        output(Path(job["output"])) as out,
        assembly(job, job["format"], events, "archive") as made,
    ):
        made.write(out)
    events.result(bytes=out.bytes, sha256=out.sha256)
