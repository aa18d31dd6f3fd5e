"""Compiles files with the Python of an environment, which gets this text as its command.

Each line of standard input is a JSON list: the source, its path inside the image, and the file to
write. The tag of this Python's byte code goes out.
"""

import json
import os
import py_compile
import sys
from contextlib import suppress


def main() -> None:
    for line in sys.stdin:
        source, name, output = json.loads(line)
        # Templates and tests of other Python versions are never imported either.
        with suppress(py_compile.PyCompileError, ValueError, RecursionError):
            py_compile.compile(
                source,
                output,
                name,
                doraise=True,
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
    os.write(1, str(sys.implementation.cache_tag).encode())


if __name__ == "__main__":
    main()
