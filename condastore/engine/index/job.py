"""The job `index`: brings one channel up to date, if it has changed, and drops what is not kept."""

import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from condastore.engine.events import EngineError, Events
from condastore.engine.failures import not_here
from condastore.engine.index.fetch import Document, Fetcher, Known
from condastore.engine.index.file import Index
from condastore.engine.jobs import IndexJob

CHANNELDATA = "channeldata.json"


def index(job: IndexJob, events: Events) -> None:
    """Tells whether the file is another now, and how many records the channel has in it.

    Whatever fails, the file stays as it was.
    """
    found = Index(Path(job["index"]))
    found.path.parent.mkdir(parents=True, exist_ok=True)
    found.beside.unlink(missing_ok=True)
    url = job["refresh"]
    try:
        if url is None:
            _drop(job, found)
            events.result(changed=True, records=0, left_out=0, example="")
            return
        with tempfile.TemporaryDirectory() as directory:
            _refresh(job, url, found, Path(directory), events)
    except sqlite3.OperationalError as error:
        raise EngineError("disk", f"The index could not be written: {error}") from None
    except sqlite3.DatabaseError as error:
        # It can be made again, from nothing.
        found.path.unlink(missing_ok=True)
        raise EngineError("disk", f"The index was damaged: {error}") from None


def _drop(job: IndexJob, found: Index) -> None:
    from condastore.engine.index.making import make_anew
    from condastore.engine.index.records import Versions

    make_anew(found, job["channels"], Versions())


def _refresh(job: IndexJob, url: str, found: Index, directory: Path, events: Events) -> None:
    source = job["source"] or url
    if job["offline"] and urlsplit(source).scheme != "file":
        raise not_here(f"the package lists of channel {url}")
    fetcher = Fetcher(source, job["credentials"], directory, job["limits"])
    names = [f"{subdir}/repodata.json" for subdir in job["subdirs"]]
    channel = found.channels.get(url)
    known = channel.documents if channel else {}
    documents = {name: fetcher.get(name, known.get(name), compressed=True) for name in names}
    if all(document.known.suffix is None for document in documents.values()):
        raise EngineError("network", f"Channel {url} has none of {', '.join(names)}.")
    documents[CHANNELDATA] = fetcher.get(CHANNELDATA, known.get(CHANNELDATA), compressed=False)
    if channel is not None and not _differ(documents, known):
        events.result(changed=False, records=channel.records, left_out=0, example="")
        return
    for name in names:
        document = documents[name]
        if document.path is None and document.known.suffix is not None:
            # It is as it was, but its records are counted together with those of another.
            documents[name] = fetcher.get(name, None, compressed=True)
    _rebuild(job, url, found, documents, directory, events)


def _differ(documents: Mapping[str, Document], known: Mapping[str, Known]) -> bool:
    if documents.keys() != known.keys():
        return True
    return any(
        document.is_changed or document.known.suffix != known[name].suffix
        for name, document in documents.items()
    )


def _rebuild(
    job: IndexJob,
    url: str,
    found: Index,
    documents: Mapping[str, Document],
    directory: Path,
    events: Events,
) -> None:
    # Loading rattler would be most of the work where nothing has changed.
    from condastore.engine.index.making import Fresh, make_anew
    from condastore.engine.index.records import Staging, Versions

    versions = Versions()
    staging = Staging(directory / "staging.sqlite", versions, job["limits"])
    with closing(staging):
        for subdir in job["subdirs"]:
            document = documents[f"{subdir}/repodata.json"]
            if document.path is not None:
                staging.add_repodata(subdir, document)
        if staging.left_out and not staging.records:
            raise EngineError(
                "package",
                f"Channel {url}: none of its {staging.left_out} records can be used; "
                f"{staging.example}.",
            )
        channeldata = documents[CHANNELDATA]
        if channeldata.path is not None:
            staging.add_channeldata(channeldata)
        elif channeldata.known.suffix is not None:
            staging.summaries = found.summaries(url)
    fresh = Fresh(url, staging, {name: document.known for name, document in documents.items()})
    make_anew(found, job["channels"], versions, fresh)
    events.result(
        changed=True,
        records=staging.records,
        left_out=staging.left_out,
        example=staging.example,
    )
