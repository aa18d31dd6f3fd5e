"""Compiles files with the Python of an environment, which gets this text as its command.

Each line of standard input names a file of jobs, which a fork of this process does, so that each
begins with the same memory. Each job is a JSON list: the source, its path inside the image, and the
file to write. For each file of jobs a line goes out: the tag of byte code, and the fork's status.
"""

import json
import os
import py_compile
import sys
from contextlib import suppress


def main() -> None:
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            compile_all(line.rstrip("\n"))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        os.write(1, f"{sys.implementation.cache_tag} {status}\n".encode())


def compile_all(path: str) -> None:
    with open(path, encoding="utf-8") as jobs:
        for job in jobs:
            source, name, output = json.loads(job)
            # Templates and tests of other Python versions are never imported either.
            with suppress(py_compile.PyCompileError, ValueError, RecursionError):
                py_compile.compile(
                    source,
                    output,
                    name,
                    doraise=True,
                    invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
                )


if __name__ == "__main__":
    main()
