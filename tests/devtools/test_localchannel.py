"""The local channel: what is made of wheels and of the interpreter, and that it works."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import io
import json
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import rattler
import zstandard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from rattler.exceptions import SolverError
from rattler.package_streaming import extract

from devtools.localchannel import make_channel
from devtools.localchannel.conversion import package_of
from devtools.localchannel.elf import Elf
from devtools.localchannel.hostile import ESCAPED, SECRET, write_hostile
from devtools.localchannel.interpreter import SUBDIR
from devtools.localchannel.package import PLACEHOLDER, File, Package, Symlink
from devtools.localchannel.requirements import depends, match_spec, version_spec
from devtools.localchannel.server import Fault, serve
from devtools.localchannel.synthetic import TYPICAL_REQUEST
from tests.patience import PATIENCE_S

MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


async def _solve(channel: str, specs: Sequence[str]) -> list[rattler.RepoDataRecord]:
    return await rattler.solve(
        [rattler.Channel(channel)],
        [rattler.MatchSpec(spec) for spec in specs],
        gateway=rattler.Gateway(),
        platforms=[rattler.Subdir(SUBDIR), rattler.Subdir("noarch")],
        virtual_packages=rattler.VirtualPackage.detect(),
        timeout=timedelta(seconds=60),
    )


def solve(channel: str, *specs: str) -> dict[str, str]:
    """Solve against a channel; return versions by name."""
    records = asyncio.run(_solve(channel, specs))
    return {record.name.normalized: str(record.version) for record in records}


@pytest.fixture(scope="module")
def prefix(small_channel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a prefix installed from the small channel."""
    base = tmp_path_factory.mktemp("installed")

    async def install() -> None:
        records = await _solve(small_channel.as_uri(), ["python", "flask", "pyyaml", "pip"])
        cache = rattler.PackageCache.new_layered([base / "cache"])
        await rattler.install(records, base / "prefix", package_cache=cache, show_progress=False)

    asyncio.run(install())
    return base / "prefix"


class TestRequirements:
    @pytest.mark.parametrize(
        ("requirement", "expected"),
        [
            ("click", "click"),
            ("Click>=8", "click >=8"),
            ("click<9,>=8.1.3", "click >=8.1.3,<9"),
            ("a_b.C==1.2", "a-b-c ==1.2"),
            ("a==1.*", "a 1.*"),
            ("a!=1.*", "a !=1.*"),
            ("a~=1.4.2", "a >=1.4.2,1.4.*"),
            ("a~=2.2", "a >=2.2,2.*"),
            ("a~=1!2.2", "a >=1!2.2,1!2.*"),
            ("a===1.0", "a ==1.0"),
            ("a!=2,>1,<=3", "a >1,<=3,!=2"),
            ("a>=1.0rc1", "a >=1.0rc1"),
            ("uvicorn[standard]>=0.12", "uvicorn >=0.12"),
            ("typing-extensions>=4", "typing_extensions >=4"),
        ],
    )
    def test_match_spec(self, requirement: str, expected: str) -> None:
        assert match_spec(Requirement(requirement)) == expected
        rattler.MatchSpec(expected)

    @pytest.mark.parametrize(
        "specifiers",
        [
            "",
            ">=1.2",
            ">1.2,<2",
            "==1.2",
            "==1.2.*",
            "!=1.2.*",
            "~=1.2",
            "~=1.2.1",
            "<=1.3,!=1.2.1",
        ],
    )
    def test_admits_the_same_versions(self, specifiers: str) -> None:
        wanted = SpecifierSet(specifiers)
        spec = rattler.MatchSpec(f"a {version_spec(wanted)}".rstrip())
        for version in (
            "1.0",
            "1.1.9",
            "1.2",
            "1.2.0",
            "1.2.1",
            "1.2.7",
            "1.3",
            "1.10",
            "2.0",
            "3",
        ):
            record = rattler.PackageRecord("a", version, rattler.BuildString("0"), 0, "noarch")
            assert spec.matches(record) == wanted.contains(Version(version)), version

    def test_markers_are_evaluated_and_extras_dropped(self) -> None:
        lines = [
            "kept>=1; python_version >= '3'",
            "windows; sys_platform == 'win32'",
            "old; python_version < '3'",
            "optional; extra == 'all'",
        ]
        assert depends(lines) == ["kept >=1"]

    def test_requirements_on_one_project_are_merged(self) -> None:
        assert depends(["b", "a>=1", "A<3"]) == ["a >=1,<3", "b"]


def make_wheel(directory: Path, tag: str) -> Path:
    """Write a wheel with something for every place."""
    info = "Demo_Project-1.0.dist-info"
    data = "Demo_Project-1.0.data"
    files = {
        "demo/__init__.py": "",
        f"{data}/scripts/demo-script": "#!python\nprint(1)\n",
        f"{data}/data/share/demo.txt": "data",
        f"{data}/headers/demo.h": "",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: Demo_Project\nVersion: 1.0\n"
        "Summary: A demo\nLicense: MIT\nRequires-Python: >=3.8\nRequires-Dist: click~=8.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\n",
        f"{info}/entry_points.txt": "[console_scripts]\ndemo = demo:main.run [extra]\n",
        f"{info}/licenses/LICENSE": "do what you like",
        f"{info}/RECORD": "",
    }
    path = directory / f"Demo_Project-1.0-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


class TestConversion:
    def test_a_pure_wheel_becomes_noarch(self, tmp_path: Path) -> None:
        package = package_of(make_wheel(tmp_path, "py3-none-any"))
        paths = {member.path for member in package.members}
        assert (package.name, package.version, package.subdir) == ("demo-project", "1.0", "noarch")
        assert package.noarch == "python"
        assert package.depends == ["python >=3.8", "click >=8.1,8.*"]
        assert package.entry_points == ["demo = demo:main.run"]
        assert {"site-packages/demo/__init__.py", "share/demo.txt"} <= paths
        assert "python-scripts/demo-script" in paths
        assert not any(path.startswith("bin/") for path in paths)
        assert package.about["summary"] == "A demo"
        assert package.license == "MIT"
        assert package.licenses == {"LICENSE": b"do what you like"}

    def test_a_compiled_wheel_belongs_to_this_python(self, tmp_path: Path) -> None:
        tag = f"cp{MINOR.replace('.', '')}"
        package = package_of(make_wheel(tmp_path, f"{tag}-{tag}-linux_x86_64"))
        files = {member.path: member for member in package.members if isinstance(member, File)}
        assert package.subdir == SUBDIR
        assert package.depends[0].startswith(f"python >={MINOR},<")
        assert f"lib/python{MINOR}/site-packages/demo/__init__.py" in files
        for script in ("bin/demo", "bin/demo-script"):
            assert files[script].relocatable
            assert files[script].executable
            assert files[script].content.startswith(f"#!{PLACEHOLDER}/bin/python\n".encode())
        assert b"from demo import main\n" in files["bin/demo"].content
        assert b"sys.exit(main.run())" in files["bin/demo"].content

    def test_record_lists_what_is_installed(self, tmp_path: Path) -> None:
        package = package_of(make_wheel(tmp_path, "py3-none-any"))
        files = {member.path: member for member in package.members if isinstance(member, File)}
        info = "site-packages/Demo_Project-1.0.dist-info"
        lines = files[f"{info}/RECORD"].content.decode().splitlines()
        listed = {line.split(",")[0] for line in lines}
        assert files[f"{info}/INSTALLER"].content == b"conda\n"
        assert {"demo/__init__.py", "../../../bin/demo", "../../../share/demo.txt"} <= listed
        assert "Demo_Project-1.0.dist-info/RECORD,," in lines


class TestPackage:
    def test_both_formats_extract_to_the_same(self, tmp_path: Path) -> None:
        (tmp_path / "noarch").mkdir()
        package = Package(
            "demo",
            "1.0",
            "0",
            "noarch",
            [File("bin/run", b"#!/bin/sh\n", executable=True), Symlink("bin/link", "run")],
        )
        for number, extension in enumerate((".conda", ".tar.bz2")):
            record = package.write(tmp_path, ".conda" if extension == ".conda" else ".tar.bz2")
            target = tmp_path / str(number)
            extract(tmp_path / "noarch" / record.filename, target)
            assert (target / "bin/link").read_bytes() == b"#!/bin/sh\n"
            assert (target / "bin/run").stat().st_mode & 0o777 == 0o755
            paths = json.loads((target / "info/paths.json").read_text())["paths"]
            assert [entry["path_type"] for entry in paths] == ["softlink", "hardlink"]

    def test_the_same_package_gives_the_same_bytes(self, tmp_path: Path) -> None:
        wheel = make_wheel(tmp_path, "py3-none-any")
        hashes = set()
        for attempt in ("one", "two"):
            (tmp_path / attempt / "noarch").mkdir(parents=True)
            hashes.add(package_of(wheel).write(tmp_path / attempt).repodata["sha256"])
        assert len(hashes) == 1


def test_elf_reads_this_interpreter() -> None:
    elf = Elf(Path(sys.executable).resolve().read_bytes())
    assert any(name.startswith("libc.") for name in elf.needed)
    present = elf.search_path
    assert elf.replace_search_path("/x" * 4096) is False
    assert elf.search_path == present


def test_elf_takes_other_files_for_what_they_are() -> None:
    assert Elf(b"#!/bin/sh\n").needed == []
    assert Elf(b"").search_path is None


class TestSmallChannel:
    def test_it_is_made_once(self, small_channel: Path, tmp_path: Path) -> None:
        before = (small_channel / "noarch/repodata.json").stat().st_mtime_ns
        # The cache is empty: nothing is downloaded, because nothing is made.
        assert make_channel("small", small_channel, tmp_path) == small_channel
        assert (small_channel / "noarch/repodata.json").stat().st_mtime_ns == before

    def test_two_may_ask_for_it_at_once(self, tmp_path: Path) -> None:
        output = tmp_path / "channel"
        command = [sys.executable, "-m", "devtools.localchannel", "--variant", "synthetic"]
        command += ["--records", "1000", "--output", str(output)]
        root = Path(__file__).parents[2]
        running = [subprocess.Popen(command, cwd=root) for _ in range(3)]
        assert [process.wait(60) for process in running] == [0, 0, 0]
        assert (output / "noarch/repodata.json").exists()
        assert {path.name for path in tmp_path.iterdir()} == {"channel", ".channel.lock"}

    def test_it_replaces_no_other_directory(self, tmp_path: Path) -> None:
        (tmp_path / "precious").write_text("")
        with pytest.raises(FileExistsError, match="something other than a local channel"):
            make_channel("small", tmp_path)

    def test_unknown_variants_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="choose one of small"):
            make_channel("tiny", tmp_path / "tiny")

    def test_the_index_is_true(self, small_channel: Path) -> None:
        for subdir in (SUBDIR, "noarch"):
            directory = small_channel / subdir
            plain = (directory / "repodata.json").read_bytes()
            compressed = (directory / "repodata.json.zst").read_bytes()
            repodata = json.loads(plain)
            assert zstandard.ZstdDecompressor().decompress(compressed) == plain
            assert repodata["info"] == {"subdir": subdir}
            for filename, record in (repodata["packages"] | repodata["packages.conda"]).items():
                content = (directory / filename).read_bytes()
                assert hashlib.sha256(content).hexdigest() == record["sha256"]
                assert len(content) == record["size"]
        packages = json.loads((small_channel / "channeldata.json").read_text())["packages"]
        assert packages["click"]["summary"] == "Composable command line interface toolkit"
        assert packages["click"]["license"]

    def test_paths_json_is_true(self, small_channel: Path, tmp_path: Path) -> None:
        for archive in [*small_channel.glob("noarch/six-*"), *small_channel.glob("*/markupsafe-*")]:
            target = tmp_path / archive.name
            extract(archive, target)
            for entry in json.loads((target / "info/paths.json").read_text())["paths"]:
                content = (target / entry["_path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == entry["sha256"]
                assert len(content) == entry["size_in_bytes"]

    @pytest.mark.parametrize("python", ["python", f"python {MINOR}.*", f"python={MINOR}"])
    def test_python_is_found_by_its_usual_specs(self, small_channel: Path, python: str) -> None:
        assert solve(small_channel.as_uri(), python)["python"].startswith(MINOR)

    def test_solving_means_something(self, small_channel: Path) -> None:
        channel = small_channel.as_uri()
        assert solve(channel, "flask", "werkzeug <3")["flask"] == "2.3.3"
        with pytest.raises(SolverError, match="werkzeug"):
            solve(channel, "flask 3.1.*", "werkzeug <3")


class TestInstalledPrefix:
    def test_python_runs_from_the_prefix(self, prefix: Path) -> None:
        program = (
            "import ssl, sqlite3, ctypes, sys, sysconfig, yaml, markupsafe._speedups;"
            "print(sys.prefix, sysconfig.get_config_var('prefix'), sep='\\n')"
        )
        output = subprocess.check_output([prefix / "bin/python", "-c", program], text=True)
        assert output.splitlines() == [str(prefix), str(prefix)]

    def test_stdlib_bytecode_is_used(self, prefix: Path) -> None:
        finished = subprocess.run(
            [prefix / "bin/python", "-v", "-c", "import json"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"{prefix}/lib/python{MINOR}/json/__pycache__" in finished.stderr
        assert "wrote" not in finished.stderr

    @pytest.mark.parametrize("command", ["flask", "pip"])
    def test_commands_run(self, prefix: Path, command: str) -> None:
        subprocess.check_call([prefix / "bin" / command, "--version"], stdout=subprocess.DEVNULL)

    def test_pip_sees_the_packages(self, prefix: Path) -> None:
        listed = json.loads(subprocess.check_output([prefix / "bin/pip", "list", "--format=json"]))
        assert {"Flask", "PyYAML", "MarkupSafe"} <= {entry["name"] for entry in listed}

    def test_text_files_hold_the_new_prefix(self, prefix: Path) -> None:
        (data,) = prefix.glob(f"lib/python{MINOR}/_sysconfigdata*.py")
        text = data.read_text()
        assert str(prefix) in text
        assert "_placehold" not in text


def test_synthetic_channel_has_its_size_and_solves(tmp_path: Path) -> None:
    channel = make_channel("synthetic", tmp_path / "channel", records=8_000)
    counts = []
    for subdir in (SUBDIR, "noarch"):
        repodata = json.loads((channel / subdir / "repodata.json").read_text())
        counts.append(len(repodata["packages.conda"]))
    assert sum(counts) == 8_000
    solved = solve(channel.as_uri(), *TYPICAL_REQUEST)
    assert solved["python"].startswith("3.11.")
    assert "jupyterlab" in solved


class TestHostile:
    @pytest.fixture
    def channel(self, tmp_path: Path) -> Path:
        write_hostile(tmp_path / "channel", tmp_path / "outside", bomb_megabytes=4)
        return tmp_path / "channel"

    def members(self, channel: Path, name: str) -> list[tarfile.TarInfo]:
        with zipfile.ZipFile(channel / "noarch" / f"{name}-1.0-0.conda") as archive:
            (payload,) = (entry for entry in archive.namelist() if entry.startswith("pkg-"))
            compressed = archive.read(payload)
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(compressed))
        with tarfile.open(fileobj=io.BytesIO(reader.read())) as members:
            return members.getmembers()

    def test_writing_them_does_no_harm(self, channel: Path) -> None:
        outside = channel.parent / "outside"
        assert [path.name for path in outside.iterdir()] == [SECRET]

    def test_they_are_what_they_claim(self, channel: Path, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        assert self.members(channel, "dotdot-member")[1].name == f"../../{ESCAPED}"
        assert self.members(channel, "absolute-member")[1].name == str(outside / ESCAPED)
        assert self.members(channel, "setuid")[0].mode == 0o4755
        assert self.members(channel, "hardlink-escape")[0].islnk()
        assert self.members(channel, "symlink-passwd")[0].linkname == "/etc/passwd"
        assert self.members(channel, "bomb")[0].size == 4 << 20

    def test_hashes_are_true_but_where_that_is_the_attack(self, channel: Path) -> None:
        repodata = json.loads((channel / "noarch/repodata.json").read_text())
        lying = set()
        for filename, record in repodata["packages.conda"].items():
            content = (channel / "noarch" / filename).read_bytes()
            if hashlib.sha256(content).hexdigest() != record["sha256"]:
                lying.add(record["name"])
        assert lying == {"wrong-sha256", "truncated", "corrupt", "not-a-package"}

    def test_they_can_be_asked_for(self, channel: Path) -> None:
        assert set(solve(channel.as_uri(), "harmless", "bomb")) == {"harmless", "bomb"}

    def test_the_index_may_send_elsewhere(self, tmp_path: Path) -> None:
        write_hostile(tmp_path, tmp_path / "out", bomb_megabytes=1, base_url="http://192.0.2.1/")
        repodata = json.loads((tmp_path / "noarch/repodata.json").read_text())
        assert repodata["info"]["base_url"] == "http://192.0.2.1/"


class TestServer:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        (tmp_path / "noarch").mkdir()
        (tmp_path / "noarch/file").write_bytes(b"x" * 1000)
        return tmp_path

    def get(self, url: str, **headers: str) -> tuple[int, bytes]:
        request = urllib.request.Request(url, headers=headers)
        try:
            with urllib.request.urlopen(request) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, b""

    def test_files_are_served_and_counted(self, directory: Path) -> None:
        with serve(directory) as server:
            assert self.get(f"{server.url}/noarch/file") == (200, b"x" * 1000)
            assert self.get(f"{server.url}/noarch/none")[0] == 404
            assert self.get(f"{server.url}/../{directory.name}/noarch/file")[0] == 404
            assert server.requests["/noarch/file"] == 1

    @pytest.mark.parametrize(
        ("access", "header"),
        [({"basic": ("user", "pass")}, "Basic dXNlcjpwYXNz"), ({"bearer": "key"}, "Bearer key")],
    )
    def test_locked_by_a_header(self, directory: Path, access: Any, header: str) -> None:
        with serve(directory, **access) as server:
            assert self.get(f"{server.url}/noarch/file")[0] == 401
            assert self.get(f"{server.url}/noarch/file", Authorization="Basic no")[0] == 401
            assert self.get(f"{server.url}/noarch/file", Authorization=header)[0] == 200
            assert server.refused["/noarch/file"] == 2

    def test_locked_by_a_token_in_the_path(self, directory: Path) -> None:
        with serve(directory, token="secret") as server:
            assert server.url.endswith("/t/secret")
            assert self.get(f"{server.url}/noarch/file")[0] == 200
            assert self.get(f"{server.root}/noarch/file")[0] == 403
            assert self.get(f"{server.root}/t/wrong/noarch/file")[0] == 403

    def test_a_status_can_be_forced_for_a_while(self, directory: Path) -> None:
        with serve(directory, faults={"noarch/*": Fault(status=503, times=2)}) as server:
            statuses = [self.get(f"{server.url}/noarch/file")[0] for _ in range(3)]
        assert statuses == [503, 503, 200]

    def test_a_body_can_be_cut_off(self, directory: Path) -> None:
        with (
            serve(directory, faults={"*": Fault(truncate=10)}) as server,
            pytest.raises(http.client.IncompleteRead),
        ):
            self.get(f"{server.url}/noarch/file")

    def test_answers_can_be_slow(self, directory: Path) -> None:
        with serve(directory, faults={"*": Fault(delay=0.1, drip=5000)}) as server:
            started = time.monotonic()
            assert self.get(f"{server.url}/noarch/file")[0] == 200
            assert time.monotonic() - started > 0.25

    def test_stopping_does_not_wait_for_slow_answers(self, directory: Path) -> None:
        started = time.monotonic()
        with serve(directory, faults={"*": Fault(drip=1)}) as server:
            response = urllib.request.urlopen(f"{server.url}/noarch/file")
            assert response.read(1) == b"x"
        assert time.monotonic() - started < PATIENCE_S

    def test_rattler_solves_through_a_token(self, small_channel: Path) -> None:
        with serve(small_channel, token="secret") as server:
            assert "flask" in solve(server.url, "flask")
            assert not server.refused
