"""A base of this machine's own: its C library, a shell, and what programs expect to find.

What is taken is named here, and nothing else of the machine gets into an image. Links on the way
to a file, such as `/lib` where that is `/usr/lib`, are taken as well.
"""

import os
import platform
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from condastore.engine.events import EngineError
from condastore.engine.image.entries import Entry, directory, file, link, text
from condastore.engine.image.libraries import interpreter, needed_libraries
from condastore.engine.image.tarball import write_layer

_MACHINES = {
    "x86_64": "linux-64",
    "aarch64": "linux-aarch64",
    "ppc64le": "linux-ppc64le",
    "s390x": "linux-s390x",
}
_LIBRARIES = (
    "libc.so.6",
    "libm.so.6",
    "libmvec.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libutil.so.1",
    "libresolv.so.2",
    "libnsl.so.1",
    "libanl.so.1",
    "libnss_files.so.2",
    "libnss_dns.so.2",
    "libcrypt.so.1",
    # Packages of conda bring these two; extension modules made of wheels don't.
    "libgcc_s.so.1",
    "libstdc++.so.6",
)
# Those of a graphics card fit the kernel of the machine that the image runs on; its tools add them.
_OF_DRIVERS = ("libcuda", "libnvidia", "libGL", "libEGL", "libOpenCL", "libdrm", "libva")
_FOLDERS = ("/lib64", "/usr/lib64", "/lib", "/usr/lib")
_PROGRAMS = ("/bin/sh", "/usr/bin/env")
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
_LOCALES = ("/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8")
_OWNERS = (
    *("libc6", "libc-bin", "libcrypt1", "dash", "coreutils", "libgcc-s1", "libstdc++6"),
    *("gcc-12-base", "gcc-13-base", "gcc-14-base", "ca-certificates"),
)
_OTHER_OWNERS = ("glibc", "libxcrypt", "bash", "dash", "coreutils", "libgcc", "libstdc++")
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
"""
_GROUP = "root:x:0:\nnogroup:x:65534:\n"
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\n"
_PROFILE = """\
for script in /etc/profile.d/*.sh; do
    if [ -r "$script" ]; then
        . "$script"
    fi
done
unset script
"""
_LINKS = 40


def host_base(wanted: str, codec: str, level: int, output: Path) -> dict[str, Any]:
    """Makes the one layer of this machine's base."""
    here = _MACHINES.get(platform.machine())
    if wanted != here:
        raise EngineError(
            "spec",
            f"The base of images is this machine's own, which is {here} and not {wanted}: set "
            "c.Images.base to an image for both.",
        )
    tree = _Tree()
    loader = _loader()
    tree.add(loader)
    for name in _LIBRARIES:
        tree.add_first([f"{folder}/{name}" for folder in _library_folders()])
    for path in _PROGRAMS:
        tree.add(path)
        _add_libraries(needed_libraries(path), tree)
    tree.add_first(_CERTIFICATES)
    for path in _LOCALES:
        tree.add_folder(path)
    for folder, owners in (("/usr/share/doc", _OWNERS), ("/usr/share/licenses", _OTHER_OWNERS)):
        for owner in owners:
            tree.add_licences(f"{folder}/{owner}")
    tree.add("/etc/os-release")
    for entry in _written():
        tree.entries[entry.path] = entry
    blob = write_layer(tree.entries.values(), codec, level, output)
    layer = {"digest": blob.digest, "diff_id": blob.diff_id, "size": blob.size}
    return {
        "layers": [{**layer, "media_type": blob.media_type}],
        "config": {},
        "glibc": platform.libc_ver()[1] or None,
        "sources": sorted(tree.sources),
        "name": f"host: {_system()}, glibc {platform.libc_ver()[1]}",
    }


def host_libraries(names: Iterable[str]) -> list[Entry]:
    """Libraries of this machine, as far as it has them, with what they need and its base lacks."""
    tree = _Tree()
    _add_libraries(names, tree)
    return list(tree.entries.values())


class _Tree:
    """What is taken of the machine."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.sources: set[str] = set()

    def add(self, path: str) -> bool:
        """Takes a file with the links that lead to it, if it is there."""
        for _ in range(_LINKS):
            found = self._step(path)
            if found is None:
                break
            path = found
        try:
            status = os.stat(path, follow_symlinks=False)
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode):
            return False
        self.sources.add(path)
        mode = 0o755 if status.st_mode & 0o111 else 0o644
        # Read once, so that what is hashed is what is there now.
        data = Path(path).read_bytes()
        name = path.lstrip("/")
        self.entries[name] = Entry(name, "file", mode, int(status.st_mtime), data=data)
        return True

    def add_first(self, paths: "list[str] | tuple[str, ...]") -> None:
        """Takes the first of some files that is there."""
        any(self.add(path) for path in paths if os.path.exists(path))

    def add_folder(self, path: str) -> None:
        """Takes what is in a directory."""
        for folder, _, names in os.walk(path):
            for name in names:
                self.add(f"{folder}/{name}")

    def add_licences(self, folder: str) -> None:
        """Takes what a distribution says about the copyright of a package."""
        path = f"{folder}/copyright" if folder.startswith("/usr/share/doc") else folder
        if os.path.isfile(path):
            # What it is said in, not where: many packages share one text by links.
            name = path.lstrip("/")
            self.entries[name] = file(name, Path(path).read_bytes())
        elif os.path.isdir(path):
            self.add_folder(path)

    def _step(self, path: str) -> str | None:
        """Takes the first link on a path, and returns the path behind it."""
        parts = path.strip("/").split("/")
        for number in range(1, len(parts) + 1):
            here = "/" + "/".join(parts[:number])
            if os.path.islink(here):
                target = os.readlink(here)
                self.entries[here.lstrip("/")] = link(here.lstrip("/"), target)
                leads_to = os.path.join(os.path.dirname(here), target, *parts[number:])
                return "/" + os.path.normpath(leads_to).lstrip("/")
        return None


def _loader() -> str:
    """The program that starts programs, as this one names it."""
    path = interpreter(sys.executable)
    if path is None:
        raise EngineError("engine", "This machine's Python does not say which loader it needs.")
    return path


def _library_folders() -> list[str]:
    triplet = getattr(sys.implementation, "_multiarch", "")
    special = [f"/lib/{triplet}", f"/usr/lib/{triplet}"] if triplet else []
    return [*special, *_FOLDERS]


def _add_libraries(names: Iterable[str], tree: _Tree) -> None:
    """Takes libraries, and those that they need in turn."""
    pending, seen = list(names), set(_LIBRARIES)
    while pending:
        name = pending.pop()
        if name in seen or name.startswith(_OF_DRIVERS):
            continue
        seen.add(name)
        paths = [f"{folder}/{name}" for folder in _library_folders()]
        found = next(filter(os.path.exists, paths), None)
        if found is not None and tree.add(found):
            pending += needed_libraries(found)


def _written() -> Iterator[Entry]:
    for name in ("dev", "home", "opt", "proc", "run", "sys", "usr/local/bin", "var/lib", "var/log"):
        yield directory(name)
    yield directory("root", 0o700)
    yield directory("tmp", 0o1777)
    yield directory("var/tmp", 0o1777)
    yield text("etc/passwd", _PASSWD)
    yield text("etc/group", _GROUP)
    yield text("etc/nsswitch.conf", _NSSWITCH)
    yield text("etc/profile", _PROFILE)


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
