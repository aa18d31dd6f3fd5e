"""Compiles files with the Python of a new prefix, which runs this file as a script of its own.

Each line of standard input is a JSON list: the source, its name below site-packages, and the
directory that stands for site-packages in the output. A dot goes out for every file done. If a
file can't be written, the exit status is the number of the error.
"""

import importlib.util
import json
import os
import py_compile
import sys


def main() -> None:
    for line in sys.stdin:
        source, name, output = json.loads(line)
        target = os.path.join(output, importlib.util.cache_from_source(name))
        try:
            py_compile.compile(source, target, name, doraise=True)
            os.chmod(target, 0o444)
        except (py_compile.PyCompileError, ValueError, RecursionError):
            # Templates and tests of other Python versions are never imported either.
            pass
        except OSError as error:
            sys.exit(error.errno)
        os.write(sys.stdout.fileno(), b".")


if __name__ == "__main__":
    main()
