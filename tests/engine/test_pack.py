"""Archives of prefixes: what conda-pack would have made, only sooner, and whatever happens."""

import contextlib
import gzip
import hashlib
import http.server
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import conda_pack
import pytest
import zstandard
from conda_pack.core import File

from condastore.engine.events import EngineError
from condastore.engine.pack.interpreters import name_interpreters
from condastore.engine.pack.members import Members
from tests.engine.conftest import Outcome, Place, child, remain, run, wait_until
from tests.engine.test_store import record_of
from tests.mounts import mounted
from tests.wheels import add_wheel, served, write_index

SPECS = ["python 3.11.*", "flask", "pyyaml", "pip"]
TREE = Path("lib/python3.11/site-packages")
Files = dict[str, tuple[int, str]]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, small_channel: Path) -> Place:
    """An environment with packages of conda and of pip, which tests leave as it is."""
    place = Place(tmp_path_factory.mktemp("built"))
    folder = tmp_path_factory.mktemp("wheelhouse")
    add_wheel(folder, "alpha", "1.0")
    write_index(folder)
    with served(folder, http.server.SimpleHTTPRequestHandler) as index:
        pip = {"requirements": ["alpha"]}
        records = place.solve(small_channel, *SPECS)
        built = place.build(
            records,
            channels=[small_channel.as_uri()],
            specs=SPECS,
            variables={"GREETING": "hello"},
            pip=pip,
            pip_index_url=f"{index}/simple",
        )
    assert built.result["pip"]
    # In the environment, and of no package: a link out of it, an empty directory, a program.
    (place.prefix / "leak").symlink_to("/etc/passwd")
    (place.prefix / "share" / "empty").mkdir(parents=True)
    (place.prefix / "share" / ("n" * 180 + "ü")).write_text("a long name")
    (place.prefix / "share" / "noise").write_bytes(bytes(range(256)) * 100)
    script = place.prefix / "bin" / "greet"
    script.write_text(f"#!{place.prefix}/bin/python3.11\nimport flask\nprint('greetings')\n")
    script.chmod(0o755)
    return place


@pytest.fixture
def own(place: Place, small_channel: Path) -> Place:
    """A small environment that a test may harm."""
    place.build(place.solve(small_channel, "markupsafe", "python 3.11.*"), bytecode=False)
    return place


def job(place: Place, output: Path, **changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "job": "archive",
        "prefix": str(place.prefix),
        "packages_dir": str(place.packages),
        "output": str(output),
        "format": "tar.gz",
        "fragments": True,
        "limits": {"memory_bytes": 4 << 30},
        **changes,
    }


def pack(place: Place, output: Path, **changes: Any) -> Outcome:
    outcome = run(job(place, output, **changes))
    assert outcome.result["bytes"] == output.stat().st_size
    assert outcome.result["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert not place.litter()
    return outcome


def refused(place: Place, **changes: Any) -> dict[str, Any]:
    """The error of a job that can't be done and leaves nothing."""
    output = place.root / "never"
    outcome = run(job(place, output, **changes))
    assert not list(place.root.glob("never*"))
    assert not place.litter()
    return outcome.error


def unpack(archive: Path, target: Path) -> None:
    target.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", target], check=True)
    python = target / "bin" / "python"
    subprocess.run([python, "-B", target / "bin" / "conda-unpack"], check=True)


def contents(root: Path) -> Files:
    """Every file and link: its mode, and its content or where it leads."""
    found = {}
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISLNK(mode):
            found[str(path.relative_to(root))] = (mode, os.readlink(path))
        elif stat.S_ISREG(mode):
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(root))] = (mode, digest)
    return found


def unpacked(archive: Path, target: Path) -> Files:
    """What is in an archive after conda-unpack, which depends on where: at the same place."""
    unpack(archive, target)
    found = contents(target)
    shutil.rmtree(target)
    return found


def fragments(place: Place) -> dict[str, bytes]:
    directory = place.packages / "fragments"
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_an_archive_unpacks_to_what_conda_packs_does(built: Place, tmp_path: Path) -> None:
    before = contents(built.prefix)
    outcome = pack(built, tmp_path / "ours.tar.gz")
    conda_pack.pack(prefix=str(built.prefix), output=str(tmp_path / "theirs.tar.gz"))
    ours = unpacked(tmp_path / "ours.tar.gz", tmp_path / "there")
    unpack(tmp_path / "theirs.tar.gz", tmp_path / "there")
    name_interpreters(str(tmp_path / "there" / "bin"))
    theirs = contents(tmp_path / "there")
    # It does that itself.
    assert ours.pop("bin/conda-unpack") != theirs.pop("bin/conda-unpack")
    assert ours["leak"] == (stat.S_IFLNK | 0o777, "/etc/passwd")
    assert ours["bin/greet"] != before["bin/greet"]
    assert f"{TREE}/alpha/__init__.py" in ours
    # Files that conda-unpack writes to are writable, unlike conda-pack's when they are not.
    for path, (mode, content) in theirs.items():
        writable = mode | (ours[path][0] & stat.S_IWUSR)
        assert ours[path] == (writable, content), path
    assert ours.keys() == theirs.keys()
    assert contents(built.prefix) == before
    assert outcome.phases == ["archive"]
    progress = [event for event in outcome.events if event["t"] == "progress"][-1]
    assert progress["done"] == progress["total"] > 1500
    assert progress["bytes"] == progress["bytes_total"] > 10_000_000


def test_the_unpacked_environment_works(built: Place, tmp_path: Path) -> None:
    pack(built, tmp_path / "a.tar.gz")
    target = tmp_path / "another place"
    unpack(tmp_path / "a.tar.gz", target)
    program = "import sys, yaml, alpha; print(sys.prefix, yaml.__with_libyaml__, alpha.__version__)"
    environment = {"PATH": f"{target}/bin:/usr/bin:/bin"}

    def output(*command: str) -> str:
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout

    assert output("python", "-c", program).split("\n")[0] == f"{target} True 1.0"
    assert "Flask" in output("flask", "--version")
    assert output("greet") == "greetings\n"
    activate = f'. "{target}/bin/activate" && flask --version'
    assert "Flask" in output("bash", "-c", activate)
    # Scripts of packages, of pip and of the user, without an activation.
    environment.clear()
    assert "Flask" in output(f"{target}/bin/flask", "--version")
    assert output(f"{target}/bin/greet") == "greetings\n"
    assert "pip" in output(f"{target}/bin/pip", "--version")
    assert str(built.prefix) not in (target / "conda-meta" / "state").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_anybody_can_relocate_what_he_unpacked(built: Place) -> None:
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        archive = Path(directory) / "a.tar.gz"
        pack(built, archive)
        script = (
            "mkdir there && tar -xzf a.tar.gz -C there && there/bin/python there/bin/conda-unpack"
        )
        subprocess.run(["sh", "-c", script], cwd=directory, user=65534, group=65534, check=True)


def test_other_programs_read_it(built: Place, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    pack(built, archive)
    subprocess.run(["gzip", "-t", archive], check=True)
    listed = subprocess.run(["tar", "-tzf", archive], check=True, capture_output=True, text=True)
    with tarfile.open(archive) as read:
        members = read.getmembers()
    assert len(members) == len(listed.stdout.splitlines()) == len({m.name for m in members})
    assert {(m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, "", "")}
    pack(built, tmp_path / "a.tar.zst", format="tar.zst")
    with (tmp_path / "a.tar.zst").open("rb") as packed, (tmp_path / "a.tar").open("wb") as plain:
        reader = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
        shutil.copyfileobj(reader, plain)
    assert (tmp_path / "a.tar").read_bytes() == gzip.decompress(archive.read_bytes())


def test_the_same_prefix_gives_the_same_bytes(built: Place, tmp_path: Path) -> None:
    shutil.rmtree(built.packages / "fragments", ignore_errors=True)
    bytes_of = [
        pack(built, tmp_path / str(number), fragments=with_fragments).result["sha256"]
        for number, with_fragments in enumerate((False, True, True, False))
    ]
    assert len(set(bytes_of)) == 1


def test_fragments_are_made_once_and_shared_between_prefixes(
    built: Place, tmp_path: Path, small_channel: Path
) -> None:
    pack(built, tmp_path / "a")
    before = fragments(built)
    assert before
    other = Place(tmp_path)
    records = built.solve(small_channel, "python 3.11.*", "pyyaml")
    channels = [small_channel.as_uri()]
    built.build(records, prefix=str(other.prefix), specs=SPECS, channels=channels)
    pack(built, tmp_path / "b", prefix=str(other.prefix))
    assert fragments(built) == before
    pack(built, tmp_path / "c", format="tar.zst")
    assert len(fragments(built)) > len(before)


def test_without_fragments_nothing_is_kept(own: Place, tmp_path: Path) -> None:
    pack(own, tmp_path / "a", fragments=False)
    assert not remain(own.packages / "fragments")


def test_python_minors_share_no_paths(place: Place, small_channel: Path, tmp_path: Path) -> None:
    records = place.solve(small_channel, "python 3.11.*", "six")
    place.build(records, bytecode=False)
    pack(place, tmp_path / "a")
    metadata = next((place.prefix / "conda-meta").glob("python-3*.json"))
    metadata.write_text(json.dumps(json.loads(metadata.read_bytes()) | {"version": "3.12.0"}))
    os.rename(place.prefix / "lib" / "python3.11", place.prefix / "lib" / "python3.12")
    pack(place, tmp_path / "b")
    with tarfile.open(tmp_path / "b") as archive:
        assert "lib/python3.12/site-packages/six.py" in archive.getnames()


@pytest.mark.parametrize("damage", ["changed", "cut", "zeroed", "gone"])
def test_damaged_fragments_are_made_anew(own: Place, tmp_path: Path, damage: str) -> None:
    expected = pack(own, tmp_path / "a").result["sha256"]
    before = fragments(own)
    for name, data in before.items():
        path = own.packages / "fragments" / name
        if damage == "changed":
            path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        elif damage == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif damage == "zeroed":
            path.write_bytes(bytes(len(data)))
        else:
            path.unlink()
    assert pack(own, tmp_path / "b").result["sha256"] == expected
    assert fragments(own) == before


def test_fragments_are_bounded_by_bytes(own: Place, tmp_path: Path) -> None:
    pack(own, tmp_path / "a")
    directory = own.packages / "fragments"
    sizes = {path: path.stat().st_size for path in directory.iterdir()}
    oldest = max(sizes, key=lambda path: sizes[path])
    os.utime(oldest, (0, 0))
    limit = sum(sizes.values()) - 1
    # It is used again, and so is the youngest.
    pack(own, tmp_path / "b", limits={"fragments_bytes": limit})
    assert oldest.exists()
    assert len(list(directory.iterdir())) == len(sizes) - 1
    pack(own, tmp_path / "c", limits={"fragments_bytes": 0})
    assert not list(directory.iterdir())


def test_several_jobs_at_once(own: Place, tmp_path: Path) -> None:
    with child() as one, child() as two, child() as three:
        running = (one, two, three)
        for number, each in enumerate(running):
            limits = {"fragments_bytes": 0} if number == 2 else {}
            each.send(job(own, tmp_path / str(number), limits=limits))
        results = {each.finish().result["sha256"] for each in running}
    assert len(results) == 1


def test_what_a_killed_job_leaves_is_swept(own: Place, tmp_path: Path) -> None:
    with child() as running:
        running.send(job(own, tmp_path / "a"))
        running.wait_for(lambda event: event["t"] == "phase")
        wait_until(lambda: len(own.litter()) > 1)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    swept = run({"v": 1, "job": "sweep", "packages_dir": str(own.packages)})
    assert swept.result["removed"] > 0
    assert not own.litter()
    pack(own, tmp_path / "a")
    assert not (tmp_path / "a.part").exists()


def test_changed_and_missing_files(own: Place, tmp_path: Path) -> None:
    # All is packed, and so will be joined before it is seen that the prefix has something else.
    pack(own, tmp_path / "whole")
    package = own.prefix / TREE / "markupsafe"
    changed = package / "__init__.py"
    changed.unlink()
    changed.write_text("# of pip\n")
    (package / "_native.py").unlink()
    outcome = pack(own, tmp_path / "a")
    assert f"1 files differ from those of their packages, and are packed as they are: {TREE}" in (
        outcome.log
    )
    assert "1 files of packages are gone" in outcome.log
    with tarfile.open(tmp_path / "a") as archive:
        names = archive.getnames()
        assert len(names) == len(set(names))
        assert f"{TREE}/markupsafe/_native.py" not in names
        member = archive.extractfile(f"{TREE}/markupsafe/__init__.py")
        assert member is not None and member.read() == b"# of pip\n"
    assert pack(own, tmp_path / "b").result["sha256"] == outcome.result["sha256"]


def test_files_of_two_packages_are_packed_once(
    place: Place, hostile_channel: Path, tmp_path: Path
) -> None:
    records = [
        record_of(hostile_channel, hostile_channel, f"clobber-{which}") for which in ("one", "two")
    ]
    place.build(records)
    pack(place, tmp_path / "a")
    with tarfile.open(tmp_path / "a") as archive:
        names = archive.getnames()
        assert names.count("share/clobbered") == 1
        member = archive.extractfile("share/clobbered")
        assert member is not None
        assert member.read() == (place.prefix / "share" / "clobbered").read_bytes()


def test_a_prefix_of_copies(place: Place, small_channel: Path, tmp_path: Path) -> None:
    records = place.solve(small_channel, "markupsafe", "python 3.11.*")
    place.build(records, link_scripts=True, bytecode=False)
    outcome = pack(place, tmp_path / "a")
    unpack(tmp_path / "a", tmp_path / "there")
    assert fragments(place)
    # Its links are copies as well, and the only files that are not as the packages have them.
    assert "bin/python" in outcome.log
    program = "import markupsafe, sys; print(sys.prefix)"
    python = tmp_path / "there" / "bin" / "python"
    found = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == str(tmp_path / "there")


def test_packages_that_are_in_the_store_no_more(own: Place, tmp_path: Path) -> None:
    shutil.rmtree(own.packages)
    outcome = pack(own, tmp_path / "a")
    assert "not in the package store" in outcome.log
    unpack(tmp_path / "a", tmp_path / "there")
    python = tmp_path / "there" / "bin" / "python"
    subprocess.run([python, "-c", "import markupsafe"], check=True)


def test_metadata_leads_nowhere_else(own: Place, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere" / "secret"
    secret.mkdir(parents=True)
    (secret / "info").mkdir()
    (secret / "info" / "files").write_text("conda-meta/history\n../../etc/passwd\n")
    (secret / "conda-meta").mkdir()
    (secret / "conda-meta" / "history").write_text("secret")
    about = {"name": "x", "version": "1", "link": {"source": str(secret)}}
    listed = ["../elsewhere/secret/info/files", "/etc/passwd", "conda-meta/history"]
    (own.prefix / "conda-meta" / "x-1-0.json").write_text(json.dumps({**about, "files": listed}))
    (own.prefix / "conda-meta" / "y-1-0.json").symlink_to(secret / "info" / "files")
    pack(own, tmp_path / "a")
    with tarfile.open(tmp_path / "a") as archive:
        names = archive.getnames()
        assert not [name for name in names if "passwd" in name or "elsewhere" in name]
        assert archive.getmember("conda-meta/y-1-0.json").issym()
        history = archive.extractfile("conda-meta/history")
        assert history is not None and b"secret" not in history.read()


def test_a_prefix_that_is_gone(place: Place) -> None:
    assert "is gone" in refused(place)["text"]
    place.prefix.mkdir()
    error = refused(place)
    assert (error["kind"], "no conda-meta" in error["text"]) == ("package", True)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"name": 1, "version": 2, "files": 3}', "\xff", "[" * 100_000]
)
def test_damaged_metadata(place: Place, text: str) -> None:
    (place.prefix / "conda-meta").mkdir(parents=True)
    (place.prefix / "conda-meta" / "x-1-0.json").write_text(text, encoding="latin-1")
    assert "conda-meta/x-1-0.json of the environment is damaged" in refused(place)["text"]


def test_special_files(own: Place) -> None:
    pack(own, own.root / "whole")
    os.mkfifo(own.prefix / "pipe")
    assert "pipe is a special file" in refused(own)["text"]
    (own.prefix / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(own.prefix / "socket"))
        assert "socket is a special file" in refused(own)["text"]


@pytest.mark.parametrize("harm", ["truncate", "append", "replace", "pipe", "link"])
def test_files_that_change_while_they_are_read(tmp_path: Path, harm: str) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(3 << 20))
    written: list[bytes] = []

    def write(data: bytes) -> None:
        written.append(data)
        if len(written) != 1:
            return
        if harm == "truncate":
            os.truncate(path, 1 << 20)
        elif harm == "append":
            with path.open("ab") as file:
                file.write(b"more")
        else:
            path.unlink()
            (tmp_path / "other").write_bytes(bytes(3 << 20))
            if harm == "pipe":
                os.mkfifo(path)
            elif harm == "link":
                path.symlink_to("other")
            else:
                (tmp_path / "other").rename(path)

    members = Members(str(tmp_path), write)
    with pytest.raises(EngineError, match="big changed while it was packed"):
        members.put(File(str(path), "big", file_mode=None))


def test_files_that_vanish(own: Place) -> None:
    """It takes a while to see that a large file is text; so long it is not opened again."""
    big, aside, output = own.prefix / "share" / "big", own.root / "aside", own.root / "never"
    big.parent.mkdir()
    with big.open("w") as file:
        for _ in range(300):
            file.write("x" * (1 << 20))
    for _ in range(10):
        with child() as running:
            running.send(job(own, output))
            running.wait_for(lambda event: event["t"] == "phase")
            wait_until(lambda: output.exists() or has_open(running.process.pid, big))
            big.rename(aside)
            outcome = running.finish()
        if outcome.status != 0:
            break
        # We were too late.
        aside.rename(big)
        output.unlink()
    error = outcome.error
    assert error["kind"] == "package" and "share/big vanished while it was packed" in error["text"]
    assert not list(own.root.glob("never*")) and not own.litter()


def has_open(pid: int, path: Path) -> bool:
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if link.readlink() == path:
                return True
    return False


def test_a_full_disk(own: Place, full: Path) -> None:
    outcome = run(job(own, full / "a.tar.gz"))
    assert outcome.error["kind"] == "disk"
    assert not list(full.iterdir())


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    with mounted("tmpfs", tmp_path / "small", 1) as small:
        yield small


def test_the_job_imports_little() -> None:
    program = "import sys; import condastore.engine.pack; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    assert "condastore.engine.pack" in output.stdout
    assert not {"rattler", "zstandard", "condastore.errors"} & set(output.stdout.split())
