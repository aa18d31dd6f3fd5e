"""Installers, run as their users run them: in dash and bash, with and without answers."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from devtools.localchannel.rawpackage import RawMember, path_entry
from tests.engine.conftest import Outcome, Place, run, wait_until
from tests.engine.test_store import write_package
from tests.patience import PATIENCE_S

NAME = "my env's"
SHELLS = ["dash", "bash"]
PATH = os.environ["PATH"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, small_channel: Path) -> Place:
    """An environment with `installer` beside it, which tests leave as they are."""
    place = Place(tmp_path_factory.mktemp("made"))
    records = place.solve(small_channel, "python 3.11.*", "flask")
    place.build([*records, scripts_of_a_package(place)], bytecode=False)
    outcome = make(place, place.root / "installer")
    assert outcome.phases == ["installer"]
    return place


def scripts_of_a_package(place: Place) -> dict[str, Any]:
    """A package with a Python script that has its prefix twice, and one of a shell."""
    room = "/opt/placeholder"
    python = f"#!{room}/bin/python\nprint('{room}')\n"
    shell = f"#!/bin/sh\necho '{room}/share'\n"
    members = [
        RawMember("bin/twice", python.encode(), 0o755),
        RawMember("bin/tell", shell.encode(), 0o755),
    ]
    text = {"file_mode": "text", "prefix_placeholder": room}
    entries = [path_entry(member) | text for member in members]
    paths = {"info/paths.json": json.dumps({"paths": entries, "paths_version": 1}).encode()}
    record = write_package(place.root / "channel", members, paths)
    return record | {"channel": (place.root / "channel").as_uri()}


@pytest.fixture
def installer(made: Place) -> Path:
    return made.root / "installer"


def make(place: Place, output: Path, **changes: Any) -> Outcome:
    return run(
        {
            "v": 1,
            "job": "installer",
            "prefix": str(place.prefix),
            "packages_dir": str(place.packages),
            "output": str(output),
            "name": NAME,
            "version": "0a1b-17",
            "fragments": True,
            "limits": {"memory_bytes": 4 << 30},
            **changes,
        }
    )


def started(
    installer: Path, *options: str | Path, answers: str = "", shell: str = "dash", **settings: Any
) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": PATH, **settings.pop("env", {})}
    return subprocess.run(
        [shell, installer, *options],
        input=answers,
        env=environment,
        capture_output=True,
        text=True,
        **settings,
    )


def installed(prefix: Path) -> bool:
    """Whether a prefix is whole; it is removed, to save space."""
    python = prefix / "bin" / "python"
    program = "import sys, flask; print(sys.prefix)"
    output = subprocess.run([python, "-c", program], check=True, capture_output=True, text=True)
    shutil.rmtree(prefix)
    return output.stdout.strip() == str(prefix)


def refuses(
    installer: Path, text: str, *options: str | Path, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Checks that an installer says why it does nothing."""
    ended = started(installer, *options, **settings)
    assert ended.returncode == 1, ended
    assert text in ended.stderr
    return ended


def stand_ins(directory: Path, *missing: str, **scripts: str) -> str:
    """A PATH with the usual programs but some, and with others in their places."""
    directory.mkdir()
    for folder in ("/bin", "/usr/bin"):
        for program in Path(folder).iterdir():
            link = directory / program.name
            if program.name not in (*missing, *scripts) and not os.path.lexists(link):
                link.symlink_to(program)
    for name, script in scripts.items():
        (directory / name).write_text(f"#!/bin/sh\n{script}\n")
        (directory / name).chmod(0o755)
    return str(directory)


def test_it_is_one_program(made: Place, installer: Path) -> None:
    outcome = make(made, made.root / "again")
    data = (made.root / "again").read_bytes()
    assert data == installer.read_bytes()
    assert outcome.result["bytes"] == len(data)
    assert outcome.result["sha256"] == hashlib.sha256(data).hexdigest()
    assert installer.stat().st_mode & 0o777 == 0o755
    assert installer.read_bytes().startswith(b"#!/bin/sh\n")
    script = installer.read_bytes().split(b"\nexit 0\n")[0]
    assert str(made.root).encode() not in script
    assert not made.litter()


@pytest.mark.parametrize("shell", SHELLS)
def test_batch(installer: Path, tmp_path: Path, shell: str) -> None:
    prefix = tmp_path / "a 'quoted' \"$HOME\" `dir` ü" / "deeper"
    ended = started(installer, "-b", "-p", prefix, shell=shell)
    assert ended.returncode == 0, ended.stderr
    assert "Unpacking my env's 0a1b-17" in ended.stdout
    command = ended.stdout.splitlines()[-1].strip()
    activated = f"{command} && flask --version && echo $CONDA_PREFIX"
    output = subprocess.run(["bash", "-c", activated], capture_output=True, text=True, check=True)
    assert "Flask" in output.stdout and output.stdout.endswith(f"{prefix}\n")
    assert installed(prefix)
    assert os.listdir(prefix.parent) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_questions_and_answers(installer: Path, tmp_path: Path, shell: str) -> None:
    home = {"HOME": str(tmp_path)}
    ended = started(installer, answers="\nyes\n", shell=shell, env=home)
    assert ended.returncode == 0, ended.stderr
    assert f"will be installed in\n    {tmp_path}/{NAME}\n" in ended.stdout
    assert installed(tmp_path / NAME)
    assert started(installer, answers="~/x y\nYes\n", shell=shell, env=home).returncode == 0
    assert installed(tmp_path / "x y")
    assert started(installer, "-p", "z/", answers="y\n", shell=shell, cwd=tmp_path).returncode == 0
    assert installed(tmp_path / "z")


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ("\nno\n", "Nothing was installed"),
        ("\n\n", "Nothing was installed"),
        ("\n", "There was no answer. To be asked nothing, use -b"),
        ("", "There was no answer"),
    ],
)
def test_without_a_yes_nothing_is_done(
    installer: Path, tmp_path: Path, answers: str, text: str
) -> None:
    refuses(installer, text, answers=answers, env={"HOME": str(tmp_path)})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name", ["prefix", "with a space", "long" * 30, '"quoted" $HOME `dir` % ü' * 4]
)
def test_scripts_work_in_an_environment_that_is_not_activated(installer: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="x", dir="/tmp") as directory:
        prefix = Path(directory) / name
        assert started(installer, "-b", "-p", prefix).returncode == 0

        def output(script: str, *arguments: str) -> str:
            command = (str(prefix / "bin" / script), *arguments)
            ended = subprocess.run(command, capture_output=True, text=True, env={})
            assert ended.returncode == 0, ended
            return ended.stdout

        assert output("flask", "--version").startswith("Python 3.11")
        assert output("python", "-V").startswith("Python 3.11")
        assert output("twice") == f"{prefix}\n"
        assert output("tell") == f"{prefix}/share\n"
        assert not list(prefix.glob("bin/*.new"))


def test_help_and_mistakes(installer: Path, tmp_path: Path) -> None:
    ended = started(installer, "-h", env={"HOME": str(tmp_path)})
    assert ended.returncode == 0
    assert f"default: {tmp_path}/{NAME}" in ended.stdout
    assert started(installer, "-x").returncode == 2
    assert started(installer, "-p").returncode == 2
    refuses(installer, "'more' is not understood", "-b", "-p", tmp_path / "x", "more")
    refuses(installer, "The prefix is empty", "-b")
    refuses(installer, "neither a colon", "-b", "-p", f"{tmp_path}/a:b")
    refuses(installer, "neither a colon", "-b", "-p", f"{tmp_path}/a\nb")
    refuses(installer, "can't be made", "-b", "-p", f"{installer}/below")
    assert not list(tmp_path.iterdir())


def test_an_existing_prefix(installer: Path, tmp_path: Path) -> None:
    prefix = tmp_path / "prefix"
    prefix.mkdir()
    (prefix / "precious").touch()
    refuses(installer, f"{prefix} exists.", "-b", "-p", prefix)
    refuses(installer, "is no environment", "-b", "-u", "-p", prefix)
    assert os.listdir(prefix) == ["precious"]
    assert started(installer, "-b", "-f", "-p", prefix).returncode == 0
    assert (prefix / "precious").exists()
    # What was there before is replaced, and only when all is well.
    ended = started(installer, "-u", "-p", prefix, answers="y\n")
    assert ended.returncode == 0 and "replaces the environment" in ended.stdout
    assert not (prefix / "precious").exists()
    assert os.listdir(tmp_path) == ["prefix"]
    (prefix / "new").touch()
    path = stand_ins(tmp_path / "cut", gzip='/bin/gzip "$@" | head -c 100000')
    refuses(installer, "could not be unpacked", "-b", "-u", "-p", prefix, env={"PATH": path})
    assert (prefix / "new").exists()
    assert installed(prefix)


def test_a_link_to_an_environment_is_updated_where_it_leads(
    installer: Path, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    refuses(installer, "exists", "-b", "-p", tmp_path / "link")
    (tmp_path / "dangling").symlink_to("nowhere")
    refuses(installer, "exists", "-b", "-p", tmp_path / "dangling")
    refuses(installer, "is no directory", "-b", "-f", "-p", tmp_path / "dangling")


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("damage", ["cut", "trailer cut", "longer", "changed", "in the script"])
def test_damaged_files(installer: Path, tmp_path: Path, damage: str, shell: str) -> None:
    data = installer.read_bytes()
    middle = len(data) // 2
    damaged = {
        "cut": data[:middle],
        "trailer cut": data[:-1],
        "longer": data + data[data.rindex(b"\n# condastore ") :],
        "changed": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "in the script": data.replace(b"made by condastore", b"made by somebody ", 1),
    }[damage]
    (tmp_path / "copy").write_bytes(damaged)
    ended = refuses(tmp_path / "copy", "", "-b", "-p", tmp_path / "prefix", shell=shell)
    said = "incomplete" if damage == "cut" else "damaged"
    assert said in ended.stderr and "Please get it again" in ended.stderr
    assert os.listdir(tmp_path) == ["copy"]


def test_checksum_programs(installer: Path, tmp_path: Path) -> None:
    path = stand_ins(tmp_path / "one", "sha256sum")
    ended = started(installer, "-b", "-p", tmp_path / "a", env={"PATH": path})
    assert ended.returncode == 0 and not ended.stderr
    path = stand_ins(tmp_path / "none", "sha256sum", "shasum")
    ended = started(installer, "-b", "-p", tmp_path / "b", env={"PATH": path})
    assert ended.returncode == 0 and "nothing checks this file" in ended.stderr


def test_other_machines(installer: Path, tmp_path: Path) -> None:
    where = ("-b", "-p", tmp_path / "prefix")
    arm = stand_ins(tmp_path / "arm", uname='[ "$1" = -m ] && echo aarch64 || echo Linux')
    mac = stand_ins(tmp_path / "mac", uname='[ "$1" = -m ] && echo x86_64 || echo Darwin')
    text = "is for Linux on x86_64, and this is Linux on aarch64"
    refuses(installer, text, *where, env={"PATH": arm})
    refuses(installer, "and this is Darwin on x86_64", *where, env={"PATH": mac})
    bare = stand_ins(tmp_path / "bare", "gzip")
    refuses(installer, "'gzip' is needed", *where, env={"PATH": bare})
    full = stand_ins(tmp_path / "full", df="echo; echo none 1000 900 100 90% /")
    refuses(installer, "has 0 MB left", *where, env={"PATH": full})
    assert not (tmp_path / "prefix").exists()


def test_programs_with_the_prefix_in_them(
    place: Place, small_channel: Path, tmp_path: Path
) -> None:
    room = "/" + "placeholder" * 18
    member = RawMember("lib/program", b"\x7fELF\xff" + room.encode() + b"/share\0the end\0")
    entry = path_entry(member) | {"file_mode": "binary", "prefix_placeholder": room}
    paths = {"info/paths.json": json.dumps({"paths": [entry], "paths_version": 1}).encode()}
    record = write_package(tmp_path / "channel", [member], paths)
    record["channel"] = (tmp_path / "channel").as_uri()
    python = place.solve(small_channel, "python 3.11.*")
    place.build([*python, record], bytecode=False)
    assert os.fsencode(place.prefix) in (place.prefix / member.path).read_bytes()
    make(place, tmp_path / "installer")
    exact = tmp_path / ("x" * (len(room) - len(str(tmp_path)) - 1))
    refuses(tmp_path / "installer", f"room for {len(room)}", "-b", "-p", f"{exact}x")
    for prefix in (exact, tmp_path / "ü"):
        ended = started(tmp_path / "installer", "-b", "-p", prefix)
        assert ended.returncode == 0, ended.stderr
        found = (prefix / member.path).read_bytes()
        assert found.startswith(b"\x7fELF\xff" + os.fsencode(prefix) + b"/share\0")
        assert len(found) == len(member.content) and found.endswith(b"the end\0")


def test_a_failure_leaves_nothing(made: Place, tmp_path: Path) -> None:
    cut = stand_ins(tmp_path / "cut", gzip='/bin/gzip "$@" | head -c 1000000')
    where = ("-b", "-p", tmp_path / "prefix")
    refuses(made.root / "installer", "could not be unpacked", *where, env={"PATH": cut})
    killer = stand_ins(tmp_path / "killer", gzip='kill -TERM $PPID; sleep 0.1; /bin/gzip "$@"')
    ended = started(made.root / "installer", *where, env={"PATH": killer})
    assert ended.returncode != 0
    assert not (tmp_path / "prefix").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("shell", SHELLS)
def test_interrupted(installer: Path, tmp_path: Path, shell: str, number: int) -> None:
    slow = stand_ins(tmp_path / "slow", gzip='/bin/gzip "$@" | (head -c 9000000; sleep 300)')
    prefix = tmp_path / "prefix"
    # Who runs the tests in the background has them ignore some signals, and so would a shell.
    command: list[str | Path] = ["env", "--default-signal", shell, installer, "-b", "-p", prefix]
    with subprocess.Popen(command, env={"PATH": slow}, start_new_session=True) as running:
        try:
            wait_until(lambda: (prefix / "bin").exists())
            os.killpg(running.pid, number)
            assert running.wait(timeout=PATIENCE_S) == 128 + number
        finally:
            running.kill()
    assert not prefix.exists()


def test_an_environment_without_python(place: Place, small_channel: Path, tmp_path: Path) -> None:
    records = [r for r in place.solve(small_channel, "python_abi") if r["name"] == "python_abi"]
    place.build(records, variables={"A": "b"})
    make(place, tmp_path / "installer")
    none = stand_ins(tmp_path / "none", "python3")
    where = ("-b", "-p", tmp_path / "there")
    refuses(tmp_path / "installer", "there is no python3", *where, env={"PATH": none})
    assert started(tmp_path / "installer", *where).returncode == 0
    state = json.loads((tmp_path / "there" / "conda-meta" / "state").read_text())
    assert state["env_vars"] == {"A": "b"}


@pytest.mark.parametrize("name", ["", "a/b", "..", "-p", "a\nb", "\x1b[0m"])
def test_names_that_are_none(place: Place, name: str) -> None:
    outcome = make(place, place.root / "never", name=name)
    assert outcome.error["kind"] == "spec"
    assert make(place, place.root / "never", version="a\nb").error["kind"] == "spec"
    assert not list(place.root.iterdir())


def test_a_prefix_that_is_gone(place: Place) -> None:
    assert "is gone" in make(place, place.root / "never").error["text"]
    assert not list(place.root.glob("never*"))


def test_anything_may_be_in_a_name(made: Place, tmp_path: Path) -> None:
    name = "$(touch owned) `touch owned` 'x' \\ @VERSION@ %s"
    make(made, tmp_path / "installer", name=name)
    ended = started(tmp_path / "installer", "-h", cwd=tmp_path)
    assert f"Installs {name} 0a1b-17." in ended.stdout
    assert os.listdir(tmp_path) == ["installer"]
