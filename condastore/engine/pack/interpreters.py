"""The end of `conda-unpack`: scripts name the interpreter that was unpacked with them.

Conda-pack has them ask `env` for it, so that they work only in an environment that is activated.

This text is run by the environment's Python: so it needs nothing else of condastore, and no syntax
that is younger than Python 3.6.
"""

import os
import re
import warnings

# The least that a kernel takes of a first line.
_LINE_BYTES = 127
_NAME = rb"(?P<name>\w[\w.+-]*)"
_ARGUMENTS = rb"(?P<arguments>( [^\n]*)?)"
_ASKS_ENV = rb"#! */usr/bin/env +" + _NAME + _ARGUMENTS + rb"\n"
_ASKS_SHELL = (
    rb"#!/bin/sh\n'''exec' [^\n]*/" + _NAME + rb"[\"')]*(?P<arguments>( [^\n]*?)?)"
    rb" \"\$0\" \"\$@\"( #|\n' )'''\n"
)
_PYTHON = re.compile(rb"(python|pypy)[0-9.]*")
# In a path, what either a shell or Python could take for something else.
_ODD = re.compile(rb"[^\w/.+,:@=~ -]")


def name_interpreters(folder: str) -> None:
    """Changes the scripts of a directory that are for a program of the same directory."""
    directory = os.fsencode(folder)
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        if os.path.islink(path) or not os.path.isfile(path):
            continue
        with open(path, "rb") as script:
            start = script.read(2)
            if start != b"#!":
                continue
            data = start + script.read()
        named = with_interpreter(data, directory)
        if named != data:
            with open(path + b".new", "wb") as new:
                new.write(named)
            os.chmod(path + b".new", os.stat(path).st_mode)
            os.rename(path + b".new", path)


def with_interpreter(script: bytes, directory: bytes) -> bytes:
    """Returns a script with first lines by which it always runs, if there are such lines."""
    names_it = b"#! *" + re.escape(directory) + b"/" + _NAME + _ARGUMENTS + rb"\n"
    for pattern in (_ASKS_ENV, names_it, _ASKS_SHELL):
        found = re.match(pattern, script)
        if found and os.path.exists(os.path.join(directory, found.group("name"))):
            break
    else:
        return script
    rest = script[found.end() :]
    program = os.path.join(directory, found.group("name"))
    return _start(program, found.group("arguments"), rest) + rest


def _start(program: bytes, arguments: bytes, rest: bytes) -> bytes:
    """Returns the first lines of a script whose others are `rest`."""
    name = os.path.basename(program)
    is_python = _PYTHON.fullmatch(name) is not None
    line = b"#!" + program + arguments + b"\n"
    fits = len(line) <= _LINE_BYTES and not re.search(rb"\s", program)
    if fits and (not is_python or _compiles(line + rest)):
        return line
    # A shell can start what the kernel can't. Its lines become the script's `__doc__`.
    lines = _shell_lines(program, arguments)
    is_free = b"__doc__" not in rest and not re.search(rb"[\"'`$\\]", arguments)
    if is_python and is_free and _compiles(lines + rest):
        return lines
    return b"#!/usr/bin/env " + name + arguments + b"\n"


def _shell_lines(program: bytes, arguments: bytes) -> bytes:
    """Returns lines by which a shell starts Python, which sees nothing in them but a text."""
    path = _ODD.sub(lambda found: b"\\0%03o" % ord(found.group()), program)
    if path != program:
        path = b"$(printf '%b' '" + path + b"')"
    return b"#!/bin/sh\n'''exec' \"" + path + b'"' + arguments + b' "$0" "$@" #\'\'\'\n'


def _compiles(script: bytes) -> bool:
    try:
        # Python wants that of a first line when it reads it from a file, and `compile` does not.
        script.partition(b"\n")[0].decode()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(script, "script", "exec", dont_inherit=True)
    except Exception:
        # For whatever reason: this runs at somebody else's, and the script then goes on asking env.
        return False
    return True
