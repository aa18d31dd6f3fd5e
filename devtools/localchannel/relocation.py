"""Files of the interpreter made fit for any prefix: binaries and text."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devtools.localchannel.elf import Elf
from devtools.localchannel.package import PLACEHOLDER, File


class UnsupportedInterpreter(RuntimeError):
    """This interpreter can't be made into a package; the message says why."""


def movable_binary(path: Path, search_path: str) -> bytes:
    """Return a binary as it can run from any prefix: stripped, libraries found beside it."""
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory, path.name)
        copy.write_bytes(path.read_bytes())
        if strip := shutil.which("strip"):
            # Debug information is most of some builds. Failing to strip is no harm.
            subprocess.run([strip, "--strip-debug", copy], check=False, capture_output=True)
        elf = Elf(copy.read_bytes())
        needs_library = any(name.startswith("libpython") for name in elf.needed)
        found = elf.search_path == search_path or elf.replace_search_path(search_path)
        if not found and needs_library:
            _set_search_path(copy, search_path)
            return copy.read_bytes()
        return elf.content


def _set_search_path(binary: Path, search_path: str) -> None:
    patchelf = shutil.which("patchelf")
    if patchelf is None:
        raise UnsupportedInterpreter(
            f"{binary.name} has no room for the search path {search_path}: install patchelf"
        )
    subprocess.run([patchelf, "--set-rpath", search_path, binary], check=True)


def relocatable_text(target: str, path: Path, executable: bool = False) -> File:
    """Return a text file with the placeholder wherever it holds this interpreter's prefix."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape")
    for prefix in sorted(_recorded_prefixes(), key=len, reverse=True):
        # Only as a whole directory: a prefix may be as short as /usr.
        whole = re.compile(
            rf"(?<![\w/.-]){re.escape(prefix)}(?=/(?:bin|include|lib|share)\b|['\"\s:]|$)|"
            rf"(?<=-[ILl]){re.escape(prefix)}(?=/)",
            re.MULTILINE,
        )
        text = whole.sub(PLACEHOLDER, text)
    content = text.encode("utf-8", errors="surrogateescape")
    return File(target, content, executable, relocatable=PLACEHOLDER in text)


def _recorded_prefixes() -> set[str]:
    """Return where the interpreter is, and where it was built to be."""
    prefixes = {sys.base_prefix}
    for path in Path(os.__file__).parent.glob("_sysconfigdata*.py"):
        prefixes.update(re.findall(r"'prefix': '(/[^']+)'", path.read_text(encoding="utf-8")))
    return prefixes
