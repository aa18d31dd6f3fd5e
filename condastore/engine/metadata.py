"""What rattler leaves out of, or puts too much into, a prefix's own description of itself."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from condastore.engine.jobs import BuildJob, Record
from condastore.engine.records import distribution

_CONDA_VERSION = "4.12.0"


def complete_metadata(prefix: Path, job: BuildJob, records: Sequence[Record]) -> None:
    """Writes the history and the variables, and lets backup tools and conda-pack see the prefix."""
    meta = prefix / "conda-meta"
    meta.mkdir(exist_ok=True)
    (meta / "history").write_text(_history(job["specs"], records))
    if job["variables"]:
        state = {"version": 1, "env_vars": job["variables"]}
        (meta / "state").write_text(json.dumps(state))
    (prefix / "CACHEDIR.TAG").unlink(missing_ok=True)


def _history(specs: Sequence[str], records: Sequence[Record]) -> str:
    # Conda reads back what was asked for from here, as in `conda env export --from-history`.
    lines = [
        time.strftime("==> %Y-%m-%d %H:%M:%S <=="),
        "# cmd: condastore",
        f"# conda version: {_CONDA_VERSION}",
        *sorted(f"+{_source(record)}::{distribution(record)}" for record in records),
        f"# update specs: {list(specs)!r}",
    ]
    return "\n".join(lines) + "\n"


def _source(record: Record) -> str:
    return f"{record['channel'].rstrip('/')}/{record['subdir']}"
