"""Layers of images, made of real packages: the rules of layers, the same bytes, the right files."""

import ast
import json
import marshal
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from condastore.engine.image.layer import Target, make_layer
from condastore.engine.image.layout import Layout, Python
from condastore.engine.image.packages import Package
from devtools.localchannel.index import write_repodata
from devtools.localchannel.package import PLACEHOLDER, File, Symlink
from devtools.localchannel.package import Package as SourcePackage
from tests.engine.conftest import Place, Record, run
from tests.engine.images import PREFIX, Made, image_job, make_image

SITE = "opt/env/lib/python3.11/site-packages"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, small_channel: Path) -> Place:
    """A place with a built environment; its package store serves every test."""
    place = Place(tmp_path_factory.mktemp("image"))
    records = place.solve(small_channel, "python 3.11.*", "flask", "pyyaml")
    assert place.build(records).status == 0
    return place


@pytest.fixture(scope="module")
def records(built: Place, small_channel: Path) -> list[Record]:
    return built.solve(small_channel, "python 3.11.*", "flask", "pyyaml")


@pytest.fixture(scope="module")
def made(built: Place, records: list[Record]) -> Made:
    """The image of that environment."""
    return make_image(built, records)


def write_channel(folder: Path, *packages: SourcePackage) -> Path:
    """A channel of a few packages."""
    for subdir in ("noarch", "linux-64"):
        (folder / subdir).mkdir(parents=True)
        written = [package.write(folder) for package in packages if package.subdir == subdir]
        write_repodata(folder / subdir, written)
    return folder


def generic(name: str, *members: File | Symlink, **fields: object) -> SourcePackage:
    return SourcePackage(
        name,
        "1",
        "0",
        "noarch",
        list(members),
        noarch="generic",
        **fields,  # type: ignore[arg-type]
    )


def test_layers_keep_the_rules_of_images(made: Made) -> None:
    directories: dict[str, tuple[int, int]] = {}
    for number in range(len(made.layers)):
        seen = set()
        for path, member in made.members(number).items():
            assert not path.startswith(("/", "./")) and ".." not in path.split("/")
            assert not os.path.basename(path).startswith(".wh.")
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert set(member.pax_headers) <= {"path", "linkpath"}
            assert member.mode in (0o644, 0o755, 0o777)
            parent = path.rpartition("/")[0]
            assert not parent or parent in seen, f"{path} comes before its directory"
            if member.isdir():
                seen.add(path)
                said = directories.setdefault(path, (member.mode, int(member.mtime)))
                assert said == (member.mode, member.mtime)
            if member.islnk():
                assert member.linkname in made.members(number)
    assert "opt/env/lib" in directories


def test_an_image_has_the_files_of_the_build(built: Place, made: Made) -> None:
    tree = made.tree()
    host = os.fsencode(built.prefix)
    for path in built.prefix.rglob("*"):
        name = str(path.relative_to(built.prefix))
        if name.startswith("conda-meta/") or path.suffix == ".pyc":
            continue
        found = tree.get(f"opt/env/{name}")
        if path.is_symlink():
            assert found == os.readlink(path)
        elif path.is_file():
            assert found == path.read_bytes().replace(host, PREFIX.encode()), name
    assert not [path for path, data in tree.items() if isinstance(data, bytes) and host in data]


def test_conda_finds_every_package_and_nothing_of_the_server(
    built: Place, records: list[Record], made: Made
) -> None:
    tree = made.tree()
    described = {}
    for path, data in tree.items():
        if re.fullmatch(r"opt/env/conda-meta/.*\.json", path):
            assert isinstance(data, bytes)
            assert str(Path.home()).encode() not in data and os.fsencode(built.root) not in data
            found = json.loads(data)
            described[found["name"]] = found
            for file in found["files"]:
                assert f"opt/env/{file}" in tree
    assert described.keys() == {record["name"] for record in records}
    flask = described["flask"]
    assert flask["requested_spec"] == "" and flask["channel"] == "file:///small"
    assert flask["url"] == f"file:///small/noarch/{flask['fn']}"
    history = tree["opt/env/conda-meta/history"]
    assert isinstance(history, bytes)
    assert history.endswith(b"# update specs: ['flask', 'pyyaml']\n")


def test_byte_code_is_that_of_the_image(made: Made) -> None:
    tree = made.tree()
    compiled = tree[f"{SITE}/flask/__pycache__/app.cpython-311.pyc"]
    assert isinstance(compiled, bytes)
    # Hash-based, and not to be checked.
    assert compiled[4:8] == b"\x01\0\0\0"
    code: CodeType = marshal.loads(compiled[16:])
    assert code.co_filename == f"/{SITE}/flask/app.py"
    sources = [p for p in tree if p.startswith(f"{SITE}/flask/") and p.endswith(".py")]
    for source in sources:
        folder, _, name = source.rpartition("/")
        assert f"{folder}/__pycache__/{name[:-3]}.cpython-311.pyc" in tree


def test_without_a_python_there_is_no_byte_code(built: Place, records: list[Record]) -> None:
    made = make_image(built, records, python_prefix=None)
    flask = [record["name"] for record in records].index("flask")
    assert not [path for path in made.members(flask) if path.endswith(".pyc")]


def test_modification_times_are_the_packages(
    built: Place, records: list[Record], made: Made
) -> None:
    flask = [record["name"] for record in records].index("flask")
    member = made.members(flask)[f"{SITE}/flask/app.py"]
    assert member.mtime == int((built.prefix / SITE[8:] / "flask/app.py").stat().st_mtime)


def test_the_same_packages_give_the_same_layers(
    records: list[Record], made: Made, tmp_path: Path
) -> None:
    first = made
    blobs = tmp_path / "again"
    blobs.mkdir()
    # From another store, another prefix and in another order.
    other = Place(tmp_path)
    shuffled = records[::-1]
    assert other.build(shuffled).status == 0
    second = make_image(other, shuffled, blobs_dir=str(blobs))
    assert dict(zip(first.keys, first.digests[:-1], strict=True)) == dict(
        zip(second.keys, second.digests[:-1], strict=True)
    )
    assert first.digests[-1] == second.digests[-1]


def test_what_a_process_did_before_does_not_matter(
    built: Place, records: list[Record], made: Made, tmp_path: Path
) -> None:
    # Many strings are interned by this, which changes what marshal writes in the same process.
    for path in (built.prefix / "lib/python3.11").glob("*.py"):
        marshal.dumps(compile(ast.parse(path.read_bytes()), str(path), "exec"))
    layout = Layout(
        PREFIX,
        Python("bin/python3.11", "lib/python3.11/site-packages", str(built.prefix / "bin/python")),
    )
    for name in ("flask", "click"):
        number = [record["name"] for record in records].index(name)
        root = built.packages / "store" / records[number]["sha256"]
        index = json.loads((root / "info/index.json").read_bytes())
        index |= json.loads((root / "info/repodata_record.json").read_bytes())
        index |= {key: records[number][key] for key in ("url", "channel", "fn")}
        again = make_layer([Package(root, index)], Target(layout, "gzip", 1, tmp_path))
        assert again.digest == made.digests[number]


def test_byte_code_of_a_package_is_kept_for_the_next_image(
    built: Place, records: list[Record], made: Made
) -> None:
    store = built.packages / "bytecode"
    kept = sorted(path for path in store.glob("*-image-*") if path.suffix != ".durable")
    assert kept and all(path.with_name(f"{path.name}.durable").exists() for path in kept)
    flask = next(record["sha256"] for record in records if record["name"] == "flask")
    (code,) = store.glob(f"{flask}-image-*/pyc")
    data = code.read_bytes()
    try:
        # So that it can be told from what is compiled anew.
        code.write_bytes(data[::-1])
        again = make_image(built, records)
    finally:
        code.write_bytes(data)
    names = [record["name"] for record in records]
    changed = [a != b for a, b in zip(made.digests, again.digests, strict=True)]
    assert [names[number] for number, differs in enumerate(changed) if differs] == ["flask"]
    assert sorted(store.glob("*-image-*")) == sorted(
        other for path in kept for other in (path, path.with_name(f"{path.name}.durable"))
    )


def test_layers_that_are_known_are_not_made(built: Place, records: list[Record]) -> None:
    job = image_job(built, records)
    for layer in job["layers"]:
        layer["known"] = layer["key"] != "flask"
    outcome = run(job)
    assert [event["key"] for event in outcome.events if event["t"] == "layer"] == ["flask"]


def test_small_packages_share_a_layer(built: Place, records: list[Record], made: Made) -> None:
    layers = [{"key": "all", "packages": list(range(len(records))), "known": False}]
    together = make_image(built, records, layers=layers)
    assert len(together.layers) == 2
    assert together.tree() == made.tree()


def test_zstd(built: Place, records: list[Record], made: Made) -> None:
    packed = make_image(built, records, codec="zstd", level=3)
    assert packed.layers[0]["media_type"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    assert packed.tree() == made.tree()


def test_libraries_of_the_host_come_along_where_packages_lack_them(
    built: Place, records: list[Record]
) -> None:
    made = make_image(built, records, host_libraries=True)
    libraries = made.members(len(made.layers) - 2)
    # The channel's Python is this machine's, with what Debian links it to.
    assert any(re.search(r"/libz\.so\.1", path) for path in libraries)
    assert not any("libc.so.6" in path or "libpython" in path for path in libraries)


def test_variables_are_set_when_a_shell_begins(built: Place, records: list[Record]) -> None:
    variables = {"GREETING": 'it\'s "$HOME"', "not a name": "x"}
    tree = make_image(built, records, variables=variables).tree()
    state = tree["opt/env/conda-meta/state"]
    assert json.loads(state)["env_vars"] == variables
    script = tree["opt/env/etc/condastore/activate.sh"]
    assert isinstance(script, bytes)
    said = subprocess.run(
        ["sh", "-c", f'{script.decode()}\necho "$GREETING $PATH"'],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == 'it\'s "$HOME" /opt/env/bin:/usr/bin:/bin\n'
    assert said.stderr == ""


def test_every_file_that_two_packages_have_is_that_of_the_build(tmp_path: Path) -> None:
    def package(name: str, *depends: str) -> SourcePackage:
        return generic(
            name,
            File("share/all", name.encode()),
            File(f"share/{name}", b""),
            depends=list(depends),
        )

    needs = {"a": [], "b": [], "c": ["a"], "d": ["e"], "e": []}
    channel = write_channel(tmp_path / "channel", *(package(n, *d) for n, d in needs.items()))
    place = Place(tmp_path)
    records = place.solve(channel, *needs)
    assert place.build(records).status == 0
    expected = (place.prefix / "share/all").read_bytes()
    for layers in ([[0], [1], [2], [3], [4]], [[4], [3], [2], [1], [0]], [[2], [4, 3, 1, 0]]):
        jobs = [{"key": str(each), "packages": each, "known": False} for each in layers]
        tree = make_image(place, records, layers=jobs).tree()
        assert tree["opt/env/share/all"] == expected
        assert {path[14:] for path in tree if path.startswith("opt/env/share/")} == {*needs, "all"}


def test_a_module_of_another_package_has_no_stale_byte_code(
    tmp_path: Path, small_channel: Path
) -> None:
    def module(name: str, noarch: bool) -> SourcePackage:
        folder = "site-packages" if noarch else "lib/python3.11/site-packages"
        return SourcePackage(
            name,
            "1",
            "0",
            "noarch" if noarch else "linux-64",
            [File(f"{folder}/shared.py", f"WHOSE = {name!r}\n".encode())],
            depends=["python"],
            noarch="python" if noarch else None,
        )

    for compiled, plain in (("first", "second"), ("second", "first")):
        place = Place(tmp_path / compiled)
        channel = write_channel(
            place.root / "channel", module(compiled, noarch=True), module(plain, noarch=False)
        )
        both = [channel.as_uri(), small_channel.as_uri()]
        records = place.solve(channel, "first", "second", "python 3.11.*", channels=both)
        assert place.build(records).status == 0
        expected = (place.prefix / SITE[8:] / "shared.py").read_bytes()
        tree = make_image(place, records).tree()
        assert tree[f"{SITE}/shared.py"] == expected
        code = tree[f"{SITE}/__pycache__/shared.cpython-311.pyc"]
        assert isinstance(code, bytes)
        said: dict[str, str] = {}
        exec(marshal.loads(code[16:]), said)
        assert expected == f"WHOSE = {said['WHOSE']!r}\n".encode()


def test_text_and_binaries_get_the_prefix_of_images(tmp_path: Path) -> None:
    text = f"#!{PLACEHOLDER}/bin/sh\n{PLACEHOLDER}\n".encode()
    channel = write_channel(
        tmp_path / "channel", generic("text", File("bin/run", text, True, relocatable=True))
    )
    place = Place(tmp_path)
    made = make_image(place, place.solve(channel, "text"))
    assert made.content(0, "opt/env/bin/run") == b"#!/opt/env/bin/sh\n/opt/env\n"
    assert made.members(0)["opt/env/bin/run"].mode == 0o755


def hostile() -> Iterator[tuple[str, list[SourcePackage], str]]:
    yield (
        "whiteout",
        [generic("bad", File("share/.wh.precious", b""))],
        "would remove files of other layers",
    )
    yield (
        "opaque",
        [generic("bad", File("share/.wh..wh..opq/x", b""))],
        "would remove files of other layers",
    )
    yield (
        "link that leaves once it has moved",
        [
            SourcePackage(
                "bad",
                "1",
                "0",
                "noarch",
                [Symlink("a/b/c/d/e/f/up", "../../../../../../x"), File("x", b"")],
                noarch="generic",
            ),
            generic("worse", Symlink("share/up", "bad"), File("share/bad", b"")),
            generic("worst", File("share/up/below", b"")),
        ],
        "can't be layers of one image",
    )


@pytest.mark.parametrize(("name", "packages", "why"), list(hostile()), ids=lambda v: str(v)[:20])
def test_packages_that_would_break_an_image_are_refused(
    tmp_path: Path, name: str, packages: list[SourcePackage], why: str
) -> None:
    channel = write_channel(tmp_path / "channel", *packages)
    place = Place(tmp_path)
    records = place.solve(channel, *(package.name for package in packages))
    outcome = run(image_job(place, records))
    assert outcome.error["kind"] == "package"
    assert why in outcome.error["text"]
    assert [path for path in (tmp_path / "blobs").iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize(
    "name", ["symlink-escape", "symlink-passwd", "symlink-dotdot", "dotdot-paths"]
)
def test_hostile_packages_get_into_no_image(place: Place, hostile_channel: Path, name: str) -> None:
    records = place.solve(hostile_channel, name)
    assert run(image_job(place, records)).error["kind"] in ("package", "hash")
    assert list((place.root / "blobs").iterdir()) == []
    assert not (hostile_channel.parent / "outside" / "escaped").exists()


@pytest.mark.parametrize("name", ["open", "setuid", "setgid"])
def test_modes_are_the_ordinary_ones(place: Place, hostile_channel: Path, name: str) -> None:
    package = {"open": "world-writable"}.get(name, name)
    made = make_image(place, place.solve(hostile_channel, package))
    assert made.members(0)[f"opt/env/bin/{name}"].mode == 0o755


def test_scripts_that_would_run_at_installation_are_named(
    place: Place, hostile_channel: Path
) -> None:
    made = make_image(place, place.solve(hostile_channel, "post-link"))
    assert made.outcome.result["scripts_not_run"] == ["post-link"]


def test_a_base_that_is_too_old_is_refused(tmp_path: Path) -> None:
    channel = write_channel(
        tmp_path / "channel", generic("new", File("x", b""), depends=["__glibc >=2.99,<3"])
    )
    place = Place(tmp_path)
    given = {"linux-64": [["__glibc", "2.99", "0"]]}
    records = place.solve(channel, "new", virtual_packages=given)
    error = run(image_job(place, records, glibc="2.36")).error
    assert error["kind"] == "unsatisfiable" and "needs 2.99" in error["text"]
    assert make_image(place, records, glibc="2.99").outcome.result["glibc"] == "2.99"


def test_activation_scripts_are_noticed(tmp_path: Path) -> None:
    channel = write_channel(
        tmp_path / "channel",
        generic("active", File("etc/conda/activate.d/active.sh", b"export ACTIVE=yes\n")),
    )
    place = Place(tmp_path)
    assert make_image(place, place.solve(channel, "active")).outcome.result["activates"]


def test_noarch_packages_have_the_same_layers_on_each_platform(
    built: Place, records: list[Record], made: Made
) -> None:
    some = [r for r in records if r["subdir"] == "noarch" or r["name"] == "python"]
    there = make_image(built, some)
    for key, digest in zip(there.keys, there.digests, strict=False):
        assert digest == made.digests[made.keys.index(key)]
