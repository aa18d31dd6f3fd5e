"""conda, mamba and micromamba as engines: their stand-ins always, themselves where they are."""

import hashlib
import json
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from rattler import Subdir

from condastore.engine import command, external
from condastore.engine.command import Outcome
from condastore.engine.events import EngineError, Events
from condastore.engine.external.answer import read_answer
from condastore.engine.external.login import write_credentials
from condastore.engine.external.plan import explicit_file, read_plan
from condastore.engine.jobs import Record
from devtools.localchannel.hostile import write_hostile
from devtools.localchannel.server import serve
from tests.engine.standin import make_standin
from tests.patience import PATIENCE_S

HERE = str(Subdir.current())
LIMITS = {"package_bytes": 10**9, "package_files": 100_000}
HASHES = ("md5", "sha256")
FILE = "share/harmless"
REAL_TOOLS = ("conda", "mamba", "micromamba")


def misbehaving(mode: str) -> pytest.MarkDecorator:
    """Runs a test with stand-ins that all misbehave in one way."""
    tools = [f"conda:{mode}", f"micromamba:{mode}"]
    return pytest.mark.parametrize("tool", tools, indirect=True)


class Recorder(Events):
    """Events that a test can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("w")
        super().__init__(self._file.fileno())

    def seen(self, kind: str) -> list[dict[str, Any]]:
        """The events of one kind so far."""
        events = [json.loads(line) for line in self._path.read_text().splitlines()]
        return [event for event in events if event["t"] == kind]

    def logged(self) -> str:
        """All lines of the log so far."""
        return "\n".join(event["text"] for event in self.seen("log"))

    def close(self) -> None:
        """Ends the recording."""
        self._file.close()


@pytest.fixture
def events(tmp_path: Path) -> Iterator[Recorder]:
    """Where the jobs of a test report to."""
    recorder = Recorder(tmp_path / "events")
    yield recorder
    recorder.close()


@pytest.fixture(params=["conda:standin", "micromamba:standin", *filter(shutil.which, REAL_TOOLS)])
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The command of one tool after the other; `name:mode` is a stand-in."""
    name, _, mode = str(request.param).partition(":")
    return str(make_standin(tmp_path / "tool", name, mode)) if mode else name


@pytest.fixture
def solve_job(tmp_path: Path, small_channel: Path, tool: str) -> dict[str, Any]:
    """A job that solves for flask on this machine."""
    return {
        "command": tool,
        "channels": [small_channel.as_uri()],
        "specs": ["python 3.11.*", "flask >=3", "six=1.16"],
        "platforms": [HERE],
        "virtual_packages": {},
        "cuda": None,
        "timeout_s": 300,
        "repodata_cache": str(tmp_path / "repodata"),
        "repodata_ttl_s": 0,
        "credentials": [],
        "offline": False,
        "flags": ["--strict-channel-priority"],
    }


@pytest.fixture
def build_job(tmp_path: Path, tool: str) -> dict[str, Any]:
    """A job that installs one small package."""
    record = hostile_record(tmp_path, "harmless")
    return {
        "command": tool,
        "prefix": str(tmp_path / "prefix"),
        "packages_dir": str(tmp_path / "packages"),
        "records": [record],
        "specs": ["harmless"],
        "channels": [record["channel"]],
        "variables": {"COLOUR": "red"},
        "link_scripts": False,
        "limits": LIMITS,
        "credentials": [],
        "offline": False,
    }


@pytest.mark.parametrize("name", REAL_TOOLS)
def test_the_real_tool_is_among_those_tested(name: str) -> None:
    if not shutil.which(name):
        pytest.skip(f"there is no {name} on this machine: only a stand-in is tested")


def test_solves_to_complete_records(
    solve_job: dict[str, Any], small_channel: Path, events: Recorder
) -> None:
    packages = external.solve(solve_job, events)

    records = {record["name"]: record for record in packages[HERE]}
    assert {"python", "flask", "werkzeug", "six"} <= records.keys()
    six, python = records["six"], records["python"]
    assert six["version"] == "1.16.0"
    assert six["url"] == f"{small_channel.as_uri()}/noarch/{six['fn']}"
    assert (six["channel"], six["subdir"]) == (small_channel.as_uri(), "noarch")
    assert len(six["sha256"]) == 64
    assert len(six["md5"]) == 32
    assert "python" in " ".join(six["depends"])
    assert (python["subdir"], python["build_number"]) == (HERE, 0)
    assert f"{HERE}: {len(records)} packages" in events.logged()


def test_builds_what_it_solved(
    solve_job: dict[str, Any], build_job: dict[str, Any], events: Recorder
) -> None:
    build_job["records"] = external.solve(solve_job, events)[HERE]

    external.link(build_job, events)

    prefix = Path(build_job["prefix"])
    run = subprocess.run([prefix / "bin/python", "-c", "import flask, six"], check=False)
    assert run.returncode == 0
    assert [event["phase"] for event in events.seen("phase")] == ["fetch", "link"]
    last = events.seen("progress")[-1]
    assert (last["phase"], last["done"], last["total"]) == (
        *("link", len(build_job["records"])),
        len(build_job["records"]),
    )
    assert "Preparing transaction: done" in events.logged()
    assert "Executing transaction: done" in events.logged()
    state = json.loads((prefix / "conda-meta" / "state").read_bytes())
    assert state["env_vars"] == {"COLOUR": "red"}
    assert "# update specs: ['harmless']" in (prefix / "conda-meta" / "history").read_text()


def test_another_platform_needs_no_machine_of_its_kind(
    solve_job: dict[str, Any], tmp_path: Path, events: Recorder
) -> None:
    channel = tmp_path / "channel"
    depends = ["__osx >=11", "__cuda >=12"]
    write_index(channel, "osx-arm64", {"apple-1-0.conda": index_of("apple", depends)})
    write_index(channel, "noarch", {})
    job = {**solve_job, "channels": [channel.as_uri()], "specs": ["apple"]}

    packages = external.solve({**job, "platforms": ["osx-arm64"], "cuda": "12.4"}, events)

    assert [record["name"] for record in packages["osx-arm64"]] == ["apple"]


def test_given_virtual_packages_count(
    solve_job: dict[str, Any], tmp_path: Path, events: Recorder
) -> None:
    channel = tmp_path / "channel"
    write_index(channel, HERE, {"new-1-0.conda": index_of("new", ["__glibc >=2.99"])})
    write_index(channel, "noarch", {})
    job = {**solve_job, "channels": [channel.as_uri()], "specs": ["new"]}

    assert external.solve({**job, "virtual_packages": {HERE: [["__glibc", "2.99", "0"]]}}, events)
    with pytest.raises(EngineError):
        external.solve(job, events)


def test_what_cannot_be_solved_is_explained(solve_job: dict[str, Any], events: Recorder) -> None:
    with pytest.raises(EngineError, match="no-such-package") as failure:
        external.solve({**solve_job, "specs": ["no-such-package"]}, events)

    assert failure.value.kind == "unsatisfiable"


def test_a_channel_that_is_not_there_is_a_network_failure(
    solve_job: dict[str, Any], events: Recorder
) -> None:
    with pytest.raises(EngineError) as failure:
        external.solve({**solve_job, "channels": ["http://127.0.0.1:9/channel"]}, events)

    assert failure.value.kind == "network"


def test_a_day_in_the_past_is_for_the_bundled_engine(
    solve_job: dict[str, Any], events: Recorder
) -> None:
    with pytest.raises(EngineError, match="rattler") as failure:
        external.solve({**solve_job, "exclude_newer": "2025-01-01"}, events)

    assert failure.value.kind == "spec"


@pytest.mark.parametrize("spec", ["/etc/x-1-0.conda", "--prefix=/", "https://host/c/x-1-0.conda"])
def test_a_spec_is_no_file_option_or_url(
    solve_job: dict[str, Any], events: Recorder, spec: str
) -> None:
    with pytest.raises(EngineError) as failure:
        external.solve({**solve_job, "specs": [spec]}, events)

    assert failure.value.kind == "spec"


def test_packages_come_over_http_and_only_once(
    build_job: dict[str, Any], tmp_path: Path, events: Recorder
) -> None:
    (record,) = build_job["records"]
    second = tmp_path / "second"
    with serve(tmp_path / "hostile") as server:
        record["url"] = f"{server.url}/noarch/{record['fn']}"
        external.link(build_job, events)
        requests = server.requests.total()
        external.link({**build_job, "prefix": str(second)}, events)

        assert server.requests.total() == requests > 0
    assert Path(build_job["prefix"], FILE).samefile(second / FILE)


def test_what_a_crash_left_in_the_cache_is_fetched_again(
    build_job: dict[str, Any], events: Recorder
) -> None:
    external.link(build_job, events)
    shutil.rmtree(build_job["prefix"])
    (archive,) = Path(build_job["packages_dir"], "external").glob("*.conda")
    archive.unlink()

    external.link(build_job, events)

    assert archive.exists()


def test_two_channels_may_have_files_of_the_same_name(
    build_job: dict[str, Any], tmp_path: Path, events: Recorder
) -> None:
    (record,) = build_job["records"]
    external.link(build_job, events)
    shutil.rmtree(build_job["prefix"])
    other = tmp_path / "other" / "noarch" / record["fn"]
    other.parent.mkdir(parents=True)
    shutil.copy(urlsplit(record["url"]).path, other)
    with zipfile.ZipFile(other, "a") as archive:
        archive.comment = b"the same package in other bytes"
    digests = {name: hashlib.new(name, other.read_bytes()).hexdigest() for name in HASHES}
    build_job["records"] = [{**record, **digests, "url": other.as_uri()}]

    external.link(build_job, events)

    assert Path(build_job["prefix"], FILE).exists()


def test_a_wrong_hash_is_refused(build_job: dict[str, Any], events: Recorder) -> None:
    build_job["records"][0]["sha256"] = "0" * 64

    with pytest.raises(EngineError, match="the lock says 0000") as failure:
        external.link(build_job, events)

    assert failure.value.kind == "hash"
    assert not Path(build_job["prefix"]).exists()
    assert not list(Path(build_job["packages_dir"], "external").iterdir())


def test_a_wrong_md5_is_refused(build_job: dict[str, Any], events: Recorder) -> None:
    build_job["records"][0]["md5"] = "0" * 32

    with pytest.raises(EngineError) as failure:
        external.link(build_job, events)

    assert failure.value.kind == "hash"


@pytest.mark.parametrize(
    ("package", "kind"),
    [("post-link", "package"), ("pre-link", "package"), ("symlink-passwd", "package")],
)
def test_hostile_packages_are_not_linked(
    build_job: dict[str, Any], tmp_path: Path, events: Recorder, package: str, kind: str
) -> None:
    build_job["records"] = [hostile_record(tmp_path, package)]

    with pytest.raises(EngineError, match=package) as failure:
        external.link(build_job, events)

    assert failure.value.kind == kind
    assert not Path(build_job["prefix"]).exists()


def test_scripts_may_be_allowed(
    build_job: dict[str, Any], tmp_path: Path, events: Recorder
) -> None:
    build_job["records"] = [hostile_record(tmp_path, "post-link")]

    external.link({**build_job, "link_scripts": True}, events)

    assert "runs a post-link script" in events.logged()


@pytest.mark.parametrize("url", ["ftp://host/c/noarch/a-1-0.conda", "file:///c/\nx/a-1-0.conda"])
def test_an_explicit_list_has_only_urls_of_packages(url: str) -> None:
    with pytest.raises(EngineError, match="unsupported kind of URL"):
        explicit_file([{"name": "a", "version": "1", "url": url}])


def test_a_missing_command_says_what_to_set(solve_job: dict[str, Any], events: Recorder) -> None:
    with pytest.raises(
        EngineError, match=r"'no/conda' was not found: set c\.CondaStore"
    ) as failure:
        external.solve({**solve_job, "command": "no/conda"}, events)

    assert failure.value.kind == "engine"


@misbehaving("crash")
def test_a_crash_gives_the_last_words(solve_job: dict[str, Any], events: Recorder) -> None:
    with pytest.raises(EngineError, match=r"(?s)SIGSEGV.*about to divide by zero") as failure:
        external.solve(solve_job, events)

    assert failure.value.kind == "engine"


@misbehaving("silent")
def test_silence_is_no_plan(solve_job: dict[str, Any], events: Recorder) -> None:
    with pytest.raises(EngineError, match="no answer that can be read") as failure:
        external.solve(solve_job, events)

    assert failure.value.kind == "engine"


@misbehaving("garbage")
def test_garbage_is_no_plan(solve_job: dict[str, Any], events: Recorder) -> None:
    with pytest.raises(EngineError, match=r'(?s)no answer.*"success": tr'):
        external.solve(solve_job, events)


@misbehaving("endless")
def test_endless_output_ends(
    solve_job: dict[str, Any], events: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "OUTPUT_LIMIT_BYTES", 2**22)

    with pytest.raises(EngineError, match="printed more than 4 MiB") as failure:
        external.solve(solve_job, events)

    assert failure.value.kind == "engine"


@misbehaving("noisy")
def test_endless_complaints_are_cut(solve_job: dict[str, Any], events: Recorder) -> None:
    assert external.solve(solve_job, events)

    logged = events.logged()
    assert len(logged) < 2 * command.LOG_LIMIT_BYTES
    assert "the rest of this program's messages is not shown" in logged


@misbehaving("hang")
def test_a_solve_has_a_deadline(solve_job: dict[str, Any], events: Recorder) -> None:
    began = time.monotonic()

    with pytest.raises(EngineError, match=r"took more than 0\.3 seconds") as failure:
        external.solve({**solve_job, "timeout_s": 0.3}, events)

    assert failure.value.kind == "timeout"
    assert time.monotonic() - began < PATIENCE_S


@misbehaving("hang")
def test_a_tool_dies_with_its_child(solve_job: dict[str, Any], tmp_path: Path) -> None:
    code = (
        "import json, sys; from condastore.engine import external; "
        "from condastore.engine.events import Events; "
        "external.solve(json.load(sys.stdin), Events(1))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, text=True)
    with child:
        assert child.stdin is not None
        json.dump(solve_job, child.stdin)
        child.stdin.close()
        (tool,) = eventually(lambda: processes_running(solve_job["command"]))
        child.send_signal(signal.SIGKILL)

    eventually(lambda: not Path("/proc", tool).exists())


@misbehaving("forge")
def test_a_package_that_a_tool_got_wrong_is_refused(
    build_job: dict[str, Any], events: Recorder
) -> None:
    with pytest.raises(EngineError, match="the lock says") as failure:
        external.link(build_job, events)

    assert failure.value.kind == "hash"


@misbehaving("forget")
def test_a_package_that_a_tool_left_out_is_missed(
    build_job: dict[str, Any], events: Recorder
) -> None:
    with pytest.raises(EngineError, match="did not install harmless") as failure:
        external.link(build_job, events)

    assert failure.value.kind == "engine"


@pytest.mark.parametrize(
    ("answer", "complaints", "kind", "text"),
    [
        (
            {"exception_name": "UnsatisfiableError", "message": "python conflicts"},
            *("", "unsatisfiable", "python conflicts"),
        ),
        (
            {
                "exception_name": "CondaMultiError",
                "message": "several",
                "errors": [{"exception_name": "NoSpaceLeftError"}],
            },
            *("", "disk", "several"),
        ),
        (
            {"success": False, "solver_problems": ["nothing provides a"]},
            *("The following package could not be installed\n└─ a", "unsatisfiable", "└─ a"),
        ),
        (
            {"exception_name": "CondaHTTPError", "message": "HTTP 401 UNAUTHORIZED for url <x>"},
            *("", "auth", "UNAUTHORIZED"),
        ),
        (
            {"exception_name": "InvalidMatchSpec", "error": "Invalid spec 'a=='"},
            *("", "spec", "a=="),
        ),
        ({}, "critical libmamba Cannot allocate memory", "memory", "allocate"),
        ({}, "Traceback: a bug", "engine", "a bug"),
    ],
)
def test_failures_have_kinds(answer: dict[str, Any], complaints: str, kind: str, text: str) -> None:
    with pytest.raises(EngineError, match=text) as failure:
        read_answer("tool", Outcome(1, json.dumps(answer), complaints))

    assert failure.value.kind == kind


def test_the_answer_is_found_among_noise() -> None:
    progress = '{"fetch": "a", "progress": 0.5}\n\0'
    output = f'warning: {{}}\n{{"broken": \n{progress}{progress}{{"success": true}}\n'

    assert read_answer("tool", Outcome(0, output, "")) == {"success": True}


def test_a_killed_tool_was_out_of_memory() -> None:
    with pytest.raises(EngineError, match="SIGKILL") as failure:
        read_answer("tool", Outcome(-signal.SIGKILL, "", ""))

    assert failure.value.kind == "memory"


def test_a_plan_without_hashes_is_refused() -> None:
    link = {"name": "a", "version": "1", "build_string": "0", "platform": "noarch"}

    with pytest.raises(EngineError, match="pkgs_dirs") as failure:
        read_plan("conda", {"actions": {"LINK": [link]}})

    assert failure.value.kind == "engine"


def test_a_plan_has_no_credentials() -> None:
    link = index_of("a", []) | {"url": "https://u:p@host/t/tk-1/c/noarch/a-1-0.conda"}

    (record,) = read_plan("mamba", {"actions": {"LINK": [link]}})

    assert record["url"] == "https://host/c/noarch/a-1-0.conda"
    assert (record["channel"], record["subdir"]) == ("https://host/c", "noarch")


def test_credentials_are_files_for_the_owner_alone(tmp_path: Path) -> None:
    variables = write_credentials(
        tmp_path,
        [
            {"url": "https://one/c", "username": "u", "password": "secret1"},
            {"url": "https://two/c/", "token": "secret2"},
            {"url": "https://three:8443", "bearer": "secret3"},
        ],
    )

    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert Path(variables["NETRC"]).read_text() == "machine one login u password secret1\n"
    token = Path(variables["BINSTAR_CONFIG_DIR"], "data", "https%3A%2F%2Ftwo%2Fc.token")
    assert token.read_text() == "secret2"
    logins = json.loads((tmp_path / ".mamba" / "auth" / "authentication.json").read_bytes())
    assert logins["two/c"] == {"type": "CondaToken", "token": "secret2"}
    assert logins["three:8443"] == {"type": "BearerToken", "token": "secret3"}
    assert logins["one/c"]["user"] == "u"
    assert "secret" not in json.dumps(variables)


def packages_of(repodata: dict[str, Any], channel: Path) -> Iterator[Record]:
    """The records of one subdir of a channel."""
    subdir = repodata["info"]["subdir"]
    for kind in ("packages", "packages.conda"):
        for name, record in repodata[kind].items():
            url = f"{channel.as_uri()}/{subdir}/{name}"
            yield {**record, "fn": name, "url": url, "channel": channel.as_uri()}


def hostile_record(directory: Path, name: str) -> Record:
    """A package that attacks, in a channel of its kind."""
    channel = directory / "hostile"
    write_hostile(channel, directory / "outside", bomb_megabytes=1)
    repodata = json.loads((channel / "noarch" / "repodata.json").read_bytes())
    (record,) = [each for each in packages_of(repodata, channel) if each["name"] == name]
    return record


def index_of(name: str, depends: list[str]) -> dict[str, Any]:
    """What a channel says about a package that nobody ever fetches."""
    return {
        "name": name,
        "version": "1",
        "build": "0",
        "build_number": 0,
        "depends": depends,
        "md5": "0" * 32,
        "sha256": "0" * 64,
        "size": 1,
    }


def write_index(channel: Path, subdir: str, packages: dict[str, Any]) -> None:
    """Writes the index of a channel without any files."""
    directory = channel / subdir
    directory.mkdir(parents=True)
    repodata = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": packages}
    (directory / "repodata.json").write_text(json.dumps(repodata))


def processes_running(executable: str) -> list[str]:
    """The ids of the processes that run a program."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if executable in (directory / "cmdline").read_text().split("\0"):
                found.append(directory.name)
        except OSError:
            continue
    return found


def eventually(condition: Callable[[], Any]) -> Any:
    """Waits until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value
