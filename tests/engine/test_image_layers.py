"""The parts that make layers: headers that any tar reads, and byte code as Python writes it."""

import io
import marshal
import sys
import tarfile
from pathlib import Path

import isal.isal_zlib
import pytest

from condastore.engine.image.compilation import compiled
from condastore.engine.image.entries import Entry, directory, file, link
from condastore.engine.image.layout import Python
from condastore.engine.image.tarball import write_layer

PYTHON = Python("bin/python", "lib/site-packages", sys.executable)


@pytest.mark.parametrize(
    "entry",
    [
        file("a" * 99, b"one"),
        file("a" * 100, b"one"),
        file("a" * 101, b"one"),
        file("ä" * 60, b""),
        file("program", b"x" * 1025, 0o755),
        directory("a" * 98),
        directory("a" * 99),
        directory("a" * 100),
        link("link", "b" * 100),
        link("link", "b" * 101),
        link("link", "ö"),
        Entry("old", "file", 0o644, -1, data=b"x"),
        Entry("new", "file", 0o644, 1 << 33, data=b"x"),
        Entry("now", "file", 0o644, (1 << 33) - 1, data=memoryview(b"x")),
    ],
    ids=lambda entry: f"{entry.kind}-{len(entry.path)}-{len(entry.target)}-{entry.mtime}",
)
def test_a_header_says_what_the_entry_does(tmp_path: Path, entry: Entry) -> None:
    blob = write_layer([entry], "gzip", 1, tmp_path)
    tar = isal.isal_zlib.decompress((tmp_path / blob.digest[7:]).read_bytes(), 31)
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        (member,) = opened.getmembers()
        read = opened.extractfile(member) if member.isfile() else None
    data = None if read is None else read.read()
    kinds = {tarfile.REGTYPE: "file", tarfile.SYMTYPE: "link", tarfile.DIRTYPE: "directory"}
    assert (member.name, kinds[member.type], member.mode) == (entry.path, entry.kind, entry.mode)
    assert (member.mtime, member.linkname, data) == (entry.mtime, entry.target, entry.data)
    assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
    # What fits takes one block.
    named = entry.path + "/" * (entry.kind == "directory")
    fits = max(len(named), len(entry.target)) <= 100 and 0 <= entry.mtime < 1 << 33
    assert (member.pax_headers == {}) == (fits and (named + entry.target).isascii())


def test_what_can_not_be_compiled_has_no_byte_code(tmp_path: Path) -> None:
    sources = {"good": b"x = 1\n", "bad": b"def x(:\n", "empty": b"", "latin": b"x = '\xe4'\n"}
    entries = [file(f"opt/{name}.py", data) for name, data in sources.items()]
    made = {entry.path: entry for entry in compiled(entries, PYTHON, tmp_path)}
    tag = sys.implementation.cache_tag
    assert made.keys() == {f"opt/__pycache__/{name}.{tag}.pyc" for name in ("good", "empty")}
    good = made[f"opt/__pycache__/good.{tag}.pyc"].data
    assert good is not None
    said: dict[str, int] = {}
    exec(marshal.loads(good[16:]), said)
    assert said["x"] == 1


def test_nothing_of_it_can_be_compiled(tmp_path: Path) -> None:
    assert compiled([file("opt/bad.py", b"def x(:\n")], PYTHON, tmp_path) == []
