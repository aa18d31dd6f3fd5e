"""Scripts that name their interpreter, in directories that are hard to name."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from condastore.engine.pack.interpreters import name_interpreters, with_interpreter

TELLS = b"import sys\nprint(sys.executable, *sys.argv[1:])\n"
# What a shell or Python could take for something else, and what is no UTF-8.
NAMES = [
    "plain",
    "with a space",
    "long" * 30,
    "it's \"quoted\" $HOME `dir` $(dir) %s \\n ü ''' #",
    "tab\tand\nline",
    os.fsdecode(b"\xff\xfe"),
]


def place(root: Path, name: str) -> Path:
    """A directory with a Python and a cat in it."""
    folder = root / name / "bin"
    folder.mkdir(parents=True)
    (folder / "python3").symlink_to(sys.executable)
    (folder / "cat").symlink_to("/bin/cat")
    return folder


def named(folder: Path, script: bytes) -> Path:
    path = folder / "script"
    path.write_bytes(script)
    path.chmod(0o751)
    name_interpreters(str(folder))
    assert path.stat().st_mode & 0o777 == 0o751
    assert sorted(os.listdir(folder)) == ["cat", "python3", "script"]
    return path


def told(*command: str | Path) -> bytes:
    ended = subprocess.run([*command, "a  b"], capture_output=True, env={})
    assert ended.returncode == 0, ended
    return ended.stdout


@pytest.mark.parametrize("name", NAMES)
def test_a_script_runs_without_an_activation(tmp_path: Path, name: str) -> None:
    folder = place(tmp_path, name)
    first_lines = [
        b"#!/usr/bin/env python3\n",
        b"#! /usr/bin/env python3 -E\n",
        # As they are when there was more than one prefix in a script, or when the first was long.
        b"#!" + os.fsencode(folder) + b"/python3 -E\n",
        b"#!/bin/sh\n'''exec' \"" + os.fsencode(folder) + b'/python3" "$0" "$@" #\'\'\'\n',
        b"#!/bin/sh\n'''exec' '" + os.fsencode(folder) + b"/python3' -E \"$0\" \"$@\"\n' '''\n",
    ]
    if "\n" in name:
        del first_lines[2:]
    for line in first_lines:
        script = named(folder, line + TELLS)
        assert told(script) == os.fsencode(folder / "python3") + b" a  b\n"
        before = script.read_bytes()
        name_interpreters(str(folder))
        assert script.read_bytes() == before
        if before.startswith(b"#!/bin/sh\n"):
            assert told("bash", script) == told("dash", script) == told(script)
            assert len(before) < 4 * len(os.fsencode(folder)) + 200


@pytest.mark.parametrize("name", ["plain", "with a space"])
def test_other_programs_are_named_where_the_kernel_takes_them(tmp_path: Path, name: str) -> None:
    folder = place(tmp_path, name)
    direct = b"#!" + os.fsencode(folder) + b"/cat -u\n"
    expected = direct if name == "plain" else b"#!/usr/bin/env cat -u\n"
    for line in (direct, b"#!/usr/bin/env cat -u\n"):
        assert named(folder, line + b"text\n").read_bytes() == expected + b"text\n"


@pytest.mark.parametrize(
    "script",
    [
        b"#!/usr/bin/env python2\n",
        b"#!/usr/bin/env perl\nprint 1;\n",
        b"#!/usr/bin/python3\n",
        b"#!/bin/sh\nexec python3\n",
        b"#!/usr/bin/env -S python3 -E\n",
        b"#!/usr/bin/env python3",
        b"no script\n",
        b"",
    ],
)
def test_what_no_program_beside_it_runs_stays(tmp_path: Path, script: bytes) -> None:
    assert with_interpreter(script, os.fsencode(place(tmp_path, "plain"))) == script


@pytest.mark.parametrize(
    "rest",
    [
        b'"""A text."""\nfrom __future__ import annotations\n',
        b'"""A text."""\nprint(__doc__)\n',
        b"# coding: latin-1\nprint('\xfc')\n",
        b"print 'as of old'\n",
    ],
)
def test_what_would_be_another_program_with_lines_of_a_shell_stays(
    tmp_path: Path, rest: bytes
) -> None:
    script = b"#!/usr/bin/env python3\n" + rest
    folder = os.fsencode(place(tmp_path, "with a space"))
    assert with_interpreter(script, folder) == script
    assert with_interpreter(b"#!" + folder + b"/python3\n" + rest, folder) == script


def test_a_future_import_without_a_text_of_its_own_is_no_hindrance(tmp_path: Path) -> None:
    script = b"#!/usr/bin/env python3\nfrom __future__ import annotations\n" + TELLS
    assert told(named(place(tmp_path, "with a space"), script)).endswith(b" a  b\n")


def test_links_and_binaries_are_left_alone(tmp_path: Path) -> None:
    folder = place(tmp_path, "plain")
    (tmp_path / "elsewhere").write_bytes(b"#!/usr/bin/env python3\n")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    (folder / "binary").write_bytes(b"\x7fELF#!/usr/bin/env python3\n")
    (folder / "directory").mkdir()
    before = {path: path.lstat().st_mtime_ns for path in folder.iterdir()}
    name_interpreters(str(folder))
    assert {path: path.lstat().st_mtime_ns for path in folder.iterdir()} == before
    assert (tmp_path / "elsewhere").read_bytes() == b"#!/usr/bin/env python3\n"
