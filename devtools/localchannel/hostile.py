"""Packages that attack whoever installs them.

Each is named after what it tries. None does harm by itself: what would be written outside
of the prefix goes to the directory ``outside`` that the caller gives, and the scripts only
leave a file behind.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devtools.localchannel.index import write_compressed, write_repodata
from devtools.localchannel.interpreter import SUBDIR
from devtools.localchannel.package import MTIME, Record, zip_conda
from devtools.localchannel.rawpackage import LISTED, RawMember, compressed_tar, path_entry

#: The name of the file that attacks on ``outside`` try to write, and that of one to read.
ESCAPED, SECRET = "escaped", "secret"

_MEGABYTE = 1 << 20
_SCRIPT = f'#!/bin/sh\necho attacked > "$PREFIX/{ESCAPED}"\n'.encode()


@dataclass(frozen=True)
class Attack:
    """A package that is like any other, but for the fields that are given."""

    name: str
    what: str
    members: Sequence[RawMember] = ()
    #: Replaces the paths of ``paths.json``.
    paths: Sequence[Mapping[str, Any]] | None = None
    #: Changes ``index.json`` alone, not what the channel says.
    index: Mapping[str, Any] = field(default_factory=dict)
    #: Changes what the channel says alone.
    repodata: Mapping[str, Any] = field(default_factory=dict)
    #: Further files of ``info/``.
    info: Mapping[str, bytes] = field(default_factory=dict)
    #: Changes the finished file, after the channel has its hash.
    damage: Callable[[bytes], bytes] | None = None
    depends: Sequence[str] = ()
    noarch: str = "generic"


def write_hostile(
    channel: Path,
    outside: Path,
    *,
    bomb_megabytes: int = 600,
    base_url: str | None = None,
) -> dict[str, Attack]:
    """Write a channel of hostile packages and return them by name.

    ``outside`` is made, with a file ``secret`` in it. ``base_url`` makes the channel itself
    hostile: its index then sends clients elsewhere for packages.
    """
    outside.mkdir(parents=True, exist_ok=True)
    (outside / SECRET).write_text(SECRET)
    written = {attack.name: attack for attack in attacks(outside, bomb_megabytes)}
    directory = channel / "noarch"
    directory.mkdir(parents=True, exist_ok=True)
    write_repodata(directory, [_write(attack, directory) for attack in written.values()])
    write_repodata(channel / SUBDIR, [])
    if base_url is not None:
        _redirect(directory, base_url)
    return written


def attacks(outside: Path, bomb_megabytes: int) -> Iterator[Attack]:
    """Yield every attack; ``outside`` is where the escapes lead."""
    yield Attack("harmless", "nothing: what the others look like", [RawMember("share/harmless")])
    yield from _escapes(outside)
    yield from _modes()
    yield from _lies()
    yield from _scripts()
    yield from _clobbers()
    yield from _damages()
    yield Attack(
        "bomb",
        f"a small package that expands to {bomb_megabytes} MB",
        [RawMember("share/bomb", b"", zeros=bomb_megabytes * _MEGABYTE)],
    )


def _escapes(outside: Path) -> Iterator[Attack]:
    escaped = str(outside / ESCAPED)
    dotdot = f"../../{ESCAPED}"
    for name, path in (("dotdot-member", dotdot), ("absolute-member", escaped)):
        # Not in paths.json, or the installer would stumble over that instead.
        listed = RawMember(f"share/{name}")
        yield Attack(
            name,
            "a member whose path leads out of the package",
            [listed, RawMember(path)],
            paths=[path_entry(listed)],
        )
    yield Attack(
        "dotdot-paths",
        "a path in paths.json above the prefix",
        [RawMember("share/dotdot-paths")],
        paths=[path_entry(RawMember(dotdot))],
    )
    yield Attack(
        "absolute-paths",
        "an absolute path in paths.json, which aborts py-rattler's whole process",
        [RawMember("share/absolute-paths")],
        paths=[path_entry(RawMember(escaped))],
    )
    yield Attack(
        "symlink-escape",
        "a symbolic link out of the package, then a member below it",
        [
            RawMember("share/out", kind=tarfile.SYMTYPE, target=str(outside)),
            RawMember(f"share/out/{ESCAPED}"),
        ],
    )
    yield Attack(
        "hardlink-escape",
        "a hard link to a file out of the package",
        [RawMember("share/stolen", kind=tarfile.LNKTYPE, target=str(outside / SECRET))],
    )
    yield Attack(
        "symlink-passwd",
        "a symbolic link to a file of the host",
        [RawMember("share/passwd", kind=tarfile.SYMTYPE, target="/etc/passwd")],
    )
    yield Attack(
        "symlink-dotdot",
        "a relative symbolic link out of the prefix",
        [RawMember("share/up", kind=tarfile.SYMTYPE, target=f"../../{SECRET}")],
    )
    yield Attack(
        "entry-point-escape",
        "an entry point whose name is a path out of bin",
        noarch="python",
        info={"link.json": _link_json(f"../../{ESCAPED} = os:getcwd")},
        depends=["python"],
    )


def _modes() -> Iterator[Attack]:
    yield Attack("setuid", "a setuid program", [RawMember("bin/setuid", mode=0o4755)])
    yield Attack("setgid", "a setgid program", [RawMember("bin/setgid", mode=0o2755)])
    yield Attack("world-writable", "a file of mode 0777", [RawMember("bin/open", mode=0o777)])
    yield Attack("fifo", "a named pipe", [RawMember("share/pipe", kind=tarfile.FIFOTYPE)])
    yield Attack("device", "a character device", [RawMember("share/null", kind=tarfile.CHRTYPE)])


def _lies() -> Iterator[Attack]:
    yield Attack(
        "wrong-sha256",
        "the channel gives another hash than the file's",
        [RawMember("share/wrong-sha256")],
        repodata={"sha256": "0" * 64, "md5": "0" * 32},
    )
    yield Attack(
        "wrong-size",
        "the channel gives another size than the file's",
        [RawMember("share/wrong-size")],
        repodata={"size": 1},
    )
    yield Attack(
        "content-mismatch",
        "a file differs from its hash in paths.json",
        [RawMember("share/content-mismatch")],
        paths=[path_entry(RawMember("share/content-mismatch", b"original"))],
    )
    yield Attack(
        "unlisted-file",
        "a file that paths.json does not list",
        [RawMember("share/listed"), RawMember("share/unlisted")],
        paths=[path_entry(RawMember("share/listed"))],
    )
    yield Attack(
        "missing-file",
        "a file that paths.json lists is missing",
        paths=[path_entry(RawMember("share/missing"))],
    )
    yield Attack(
        "name-mismatch",
        "index.json gives another name than the channel",
        [RawMember("share/name-mismatch")],
        index={"name": "openssl"},
    )
    yield Attack(
        "depends-mismatch",
        "index.json gives other dependencies than the channel",
        [RawMember("share/depends-mismatch")],
        index={"depends": ["post-link"]},
    )


def _scripts() -> Iterator[Attack]:
    for when in ("pre-link", "post-link", "pre-unlink"):
        yield Attack(
            when, f"a {when} script", [RawMember(f"bin/.{when}-{when}.sh", _SCRIPT, 0o755)]
        )
    yield Attack(
        "activate-script",
        "a script that runs when the environment is activated",
        [RawMember("etc/conda/activate.d/activate-script.sh", _SCRIPT)],
    )
    yield Attack(
        "pth-code",
        "code that runs whenever the environment's Python starts",
        [RawMember("site-packages/pth-code.pth", b"import sys; sys.attacked = True\n")],
        noarch="python",
        info={"link.json": _link_json()},
        depends=["python"],
    )


def _clobbers() -> Iterator[Attack]:
    for name in ("clobber-one", "clobber-two"):
        yield Attack(
            name,
            "the same file as another package, with other content",
            [RawMember("share/clobbered", name.encode())],
        )
    yield Attack(
        "duplicate-member",
        "a member twice, the second unlike the first",
        [RawMember("share/twice"), RawMember("share/twice", b"second")],
        paths=[path_entry(RawMember("share/twice"))],
    )
    yield Attack(
        "shadow-conda-meta",
        "a file that says another package is installed",
        [RawMember("conda-meta/openssl-99-0.json", b'{"name": "openssl", "version": "99"}')],
    )


def _damages() -> Iterator[Attack]:
    members = [RawMember("share/damaged", bytes(range(256)) * 64)]
    yield Attack(
        "truncated",
        "a file cut off in the middle",
        members,
        damage=lambda content: content[: len(content) // 2],
    )
    yield Attack(
        "corrupt",
        "a file with a flipped run of bytes",
        members,
        damage=lambda content: content[:200] + bytes(100) + content[300:],
    )
    yield Attack(
        "not-a-package",
        "a file that is no archive",
        damage=lambda content: b"<html>Please log in</html>",
    )


def _write(attack: Attack, directory: Path) -> Record:
    index = {
        "arch": None,
        "build": "0",
        "build_number": 0,
        "depends": list(attack.depends),
        "license": "BSD-3-Clause",
        "name": attack.name,
        "noarch": attack.noarch,
        "platform": None,
        "subdir": "noarch",
        "timestamp": MTIME * 1000,
        "version": "1.0",
    }
    paths = attack.paths
    if paths is None:
        paths = [path_entry(member) for member in attack.members if member.kind in LISTED]
    info = {
        "about.json": _json({"summary": attack.what}),
        "files": "".join(f"{entry['_path']}\n" for entry in paths).encode(),
        "index.json": _json({**index, **attack.index}),
        "link.json": _link_json(kind=attack.noarch),
        "paths.json": _json({"paths": paths, "paths_version": 1}),
        **attack.info,
    }
    path = directory / f"{attack.name}-1.0-0.conda"
    metadata = [RawMember(f"info/{name}", content) for name, content in info.items()]
    zip_conda(path, compressed_tar(attack.members), compressed_tar(metadata))
    record = Record.of_file(path, {**index, **attack.repodata}, {"summary": attack.what})
    # A lie about a hash or size must win over the truth.
    record.repodata.update(attack.repodata)
    if attack.damage:
        path.write_bytes(attack.damage(path.read_bytes()))
    return record


def _redirect(directory: Path, base_url: str) -> None:
    path = directory / "repodata.json"
    repodata = json.loads(path.read_bytes())
    repodata["info"]["base_url"] = base_url
    write_compressed(path, _json({**repodata, "repodata_version": 2}))


def _link_json(*entry_points: str, kind: str = "python") -> bytes:
    noarch: dict[str, Any] = {"type": kind}
    if entry_points:
        noarch["entry_points"] = list(entry_points)
    return _json({"noarch": noarch, "package_metadata_version": 1})


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
