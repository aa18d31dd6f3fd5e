"""Compiles files with the Python of an environment, which gets this text as its command.

Each line of standard input names a file of jobs, which a fork of this process does, so that each
begins with the same memory. Each job is a JSON list: the source, and its path inside the image.
The byte code of all goes into one file called like that of the jobs with `.pyc`, one after the
other, and a JSON list of how many bytes each has, or null, into one with `.sizes`. The first line
that goes out is a JSON list: the tag of byte code, and the version of Python. Then comes the fork's
status for each file of jobs.
"""

import json
import marshal
import os
import sys
from importlib.util import MAGIC_NUMBER, source_hash

# By the hash of the source, and not to be checked (PEP 552).
_UNCHECKED_HASH = b"\1\0\0\0"


def main() -> None:
    print(json.dumps([sys.implementation.cache_tag, sys.version]), flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            compile_all(line.rstrip("\n"))
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        os.write(1, f"{status}\n".encode())


def compile_all(path: str) -> None:
    sizes: list[int | None] = []
    with open(path, encoding="utf-8") as jobs, open(f"{path}.pyc", "wb") as output:
        for job in jobs:
            source, name = json.loads(job)
            with open(source, "rb") as opened:
                data = opened.read()
            try:
                code = compile(data, name, "exec", dont_inherit=True)
            except (SyntaxError, ValueError, RecursionError):
                # Templates and tests of other Python versions are never imported either.
                sizes.append(None)
                continue
            head = MAGIC_NUMBER + _UNCHECKED_HASH + source_hash(data)
            sizes.append(output.write(head + marshal.dumps(code)))
    with open(f"{path}.sizes", "w", encoding="utf-8") as listed:
        json.dump(sizes, listed)


if __name__ == "__main__":
    main()
