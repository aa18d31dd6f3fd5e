"""`python -I -m condastore.engine`: one job on standard input, its events on a descriptor."""

import argparse
import json
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from condastore import faults
from condastore.engine import confine
from condastore.engine.events import EVENTS_FD, Events
from condastore.engine.failures import explain
from condastore.engine.redaction import without_credentials

Role = Callable[[Any, Events], None]
# The jobs after which the process waits for another.
_REPEATED = {"solve", "base", "image", "inventory"}


def main() -> int:
    """Does the jobs on standard input; after some of them there may be another."""
    arguments = _arguments()
    confine.die_with_parent(arguments.parent)
    faults.be_child_of(arguments.parent)
    os.set_inheritable(arguments.events_fd, False)
    events = Events(arguments.events_fd)
    roles: dict[str, Role] = {}
    if arguments.role is not None:
        roles[arguments.role] = _limited_role(arguments.role, arguments.memory)
    done = True
    for line in sys.stdin.buffer:
        done = _perform(line, roles, events)
        if not roles.keys() <= _REPEATED:
            break
    return 0 if done else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="condastore.engine", description=__doc__)
    parser.add_argument("--events-fd", type=int, default=EVENTS_FD)
    parser.add_argument("--parent", type=int, help="end at once if this is not the parent")
    parser.add_argument("--role", help="kind of the first job, which is prepared for")
    parser.add_argument("--memory", type=int, help="limit of such a job, in bytes")
    return parser.parse_args()


def _limited_role(name: str, memory_bytes: int | None) -> Role:
    # Limits must be set before rattler is loaded.
    confine.limit(name, memory_bytes)
    return _role(name)


def _role(name: str) -> Role:
    # Imported here because removing files needs none of rattler.
    if name == "solve":
        from condastore.engine.solver import Solver

        return Solver().solve
    if name == "build":
        from condastore.engine.build import build

        return build
    if name in ("archive", "installer"):
        from condastore.engine import pack

        return {"archive": pack.archive, "installer": pack.installer}[name]
    if name == "index":
        from condastore.engine.index.job import index

        return index
    if name in ("base", "image", "inventory"):
        from condastore.engine.image import roles

        return roles.role(name)
    if name == "verify":
        from condastore.engine.verify import verify

        return verify
    from condastore.engine import remove

    return {"remove": remove.remove, "sweep": remove.sweep}[name]


def _perform(line: bytes, roles: dict[str, Role], events: Events) -> bool:
    try:
        job = json.loads(line)
        name = job["job"]
        if name not in roles:
            roles[name] = _limited_role(name, job.get("limits", {}).get("memory_bytes"))
        roles[name](job, events)
    except BaseException as error:  # a panic in Rust is no Exception
        reason = explain(error)
        if reason.kind == "internal":
            sys.stderr.write(without_credentials(traceback.format_exc()))
        events.error(reason.kind, reason.text)
        return False
    return True


if __name__ == "__main__":
    # Threads of the engine may still be busy with work that nobody waits for.
    os._exit(main())
