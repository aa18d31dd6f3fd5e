"""pip packages beside conda's: real uv, a real interpreter, and an index made on the spot."""

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import rattler

from condastore.engine.events import EngineError, Events
from condastore.engine.pip import resolve_and_install
from condastore.engine.pip.lock import read_pylock
from condastore.engine.pip.sources import read_sources
from tests.wheels import add_sdist, add_wheel, served, write_index

HERE = str(rattler.Subdir.current())
USER, PASSWORD, TOKEN = "someone", "correct horse", "tk-12345"
Build = Callable[..., dict[str, list[dict[str, Any]]]]


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that, served over HTTP, is a package index below `simple/`."""
    folder = tmp_path_factory.mktemp("wheelhouse")
    add_wheel(folder, "alpha", "1.0", ["beta>=1"])
    add_wheel(folder, "beta", "1.0")
    add_wheel(folder, "beta", "2.0")
    add_wheel(folder, "gamma", "1.0", ["beta>=2"])
    add_wheel(folder, "Dotted.Name", "1.0")
    add_wheel(folder, "both", "1.0")
    interpreter = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    add_wheel(folder, "both", "1.0", tag=f"{interpreter}-{interpreter}-manylinux_2_17_x86_64")
    add_wheel(folder, "both", "1.0", tag="cp311-cp311-macosx_11_0_arm64")
    add_wheel(folder, "elsewhere", "1.0", tag="cp311-cp311-win_amd64")
    add_sdist(folder, "raw", "1.0")
    write_index(folder)
    return folder


@pytest.fixture
def index(wheelhouse: Path) -> Iterator[str]:
    """The URL of an index for everyone."""
    with served(wheelhouse, http.server.SimpleHTTPRequestHandler) as url:
        yield f"{url}/simple"


@pytest.fixture
def private_index(wheelhouse: Path) -> Iterator[str]:
    """The URL of an index that wants a password, for its pages and its files."""
    with served(wheelhouse, PrivateHandler) as url:
        yield f"{url}/simple"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment with nothing but Python."""
    path = tmp_path / "prefix"
    command = [sys.executable, "-m", "venv", "--without-pip", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


@pytest.fixture
def log() -> list[dict[str, Any]]:
    """The events of the builds of a test."""
    return []


@pytest.fixture
def build(tmp_path: Path, prefix: Path, index: str, log: list[dict[str, Any]]) -> Build:
    """Runs the pip phase of a job with the given requirements and fields."""

    def run(*requirements: str, **fields: Any) -> dict[str, list[dict[str, Any]]]:
        job: dict[str, Any] = {
            "packages_dir": str(tmp_path / "packages"),
            "pip": {"requirements": list(requirements)},
            "pip_locked": None,
            "pip_index_url": index,
            "credentials": [],
            "offline": False,
            **fields,
        }
        path = tmp_path / "events"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            return resolve_and_install(job, prefix, Events(fd))
        finally:
            os.close(fd)
            log.extend(json.loads(line) for line in path.read_text().splitlines())

    return run


def test_installs_and_tells_what_it_chose(
    build: Build, prefix: Path, wheelhouse: Path, log: list[dict[str, Any]]
) -> None:
    chosen = build("alpha")

    assert [(e["name"], e["version"]) for e in chosen[HERE]] == [("alpha", "1.0"), ("beta", "2.0")]
    alpha = chosen[HERE][0]
    wheel = wheelhouse / "alpha-1.0-py3-none-any.whl"
    assert alpha["url"].endswith(f"/{wheel.name}")
    assert alpha["hash"] == {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()}
    assert alpha["requires"] == ["beta>=1"]
    assert imported(prefix, "beta") == "2.0"
    assert log[-1]["t"] == "progress"
    assert (log[-1]["done"], log[-1]["total"]) == (2, 2)
    assert "  alpha 1.0" in logged(log)


def test_installed_packages_look_as_pip_made_them(build: Build, prefix: Path) -> None:
    build("alpha")

    (info,) = site_packages(prefix).glob("alpha-*.dist-info")
    assert not (info / "direct_url.json").exists()
    assert (info / "INSTALLER").read_text() == "uv"
    assert list(site_packages(prefix).glob("alpha/__pycache__/*.pyc"))


def test_files_are_hard_links_into_the_package_store(build: Build, prefix: Path) -> None:
    build("beta")

    assert (site_packages(prefix) / "beta" / "__init__.py").stat().st_nlink > 1


def test_byte_code_is_optional(build: Build, prefix: Path) -> None:
    build("beta", bytecode=False)

    assert not list(site_packages(prefix).glob("beta/__pycache__"))


def test_what_conda_owns_satisfies_and_stays(build: Build, prefix: Path, wheelhouse: Path) -> None:
    own(prefix, wheelhouse / "beta-1.0-py3-none-any.whl")

    chosen = build("alpha", "beta")

    assert [entry["name"] for entry in chosen[HERE]] == ["alpha"]
    assert imported(prefix, "beta") == "1.0"


def test_what_conda_owns_need_not_be_on_the_index(
    build: Build, prefix: Path, tmp_path: Path
) -> None:
    own(prefix, add_wheel(tmp_path, "beta", "1.5"))

    assert [entry["name"] for entry in build("alpha")[HERE]] == ["alpha"]


@pytest.mark.parametrize("requirement", ["gamma", "beta>1"])
def test_a_conflict_with_conda_names_the_owner(
    build: Build, prefix: Path, wheelhouse: Path, requirement: str
) -> None:
    own(prefix, wheelhouse / "beta-1.0-py3-none-any.whl")

    with pytest.raises(EngineError, match=r"beta 1\.0 is owned by conda") as failure:
        build(requirement)

    assert failure.value.kind == "unsatisfiable"
    assert imported(prefix, "beta") == "1.0"


def test_a_url_does_not_replace_what_conda_owns(
    build: Build, prefix: Path, wheelhouse: Path, index: str
) -> None:
    wheel = own(prefix, wheelhouse / "beta-1.0-py3-none-any.whl")

    with pytest.raises(EngineError, match=r"beta 1\.0 is owned by conda"):
        build(f"beta @ {index.removesuffix('/simple')}/{wheel.name}")


def test_a_url_is_a_requirement(build: Build, prefix: Path, index: str) -> None:
    url = f"{index.removesuffix('/simple')}/beta-1.0-py3-none-any.whl"

    (entry,) = build(f"beta @ {url}")[HERE]

    assert (entry["version"], entry["url"]) == ("1.0", url)
    assert imported(prefix, "beta") == "1.0"


def test_nothing_to_add_is_no_error(build: Build, prefix: Path, wheelhouse: Path) -> None:
    own(prefix, wheelhouse / "beta-1.0-py3-none-any.whl")

    assert build("beta") == {HERE: []}


def test_the_wheel_made_for_the_platform_is_chosen(build: Build) -> None:
    (entry,) = build("both")[HERE]

    assert "manylinux" in entry["url"]


def test_other_platforms_get_their_own_files(build: Build, log: list[dict[str, Any]]) -> None:
    platforms = {HERE: "3.11.7", "osx-arm64": "3.11.7", "linux-s390x": "3.11.7"}

    chosen = build(pip={"requirements": ["both", "alpha"], "python_platforms": platforms})

    files = {entry["name"]: entry["url"] for entry in chosen["osx-arm64"]}
    assert files.keys() == {"alpha", "beta", "both"}
    assert files["both"].endswith("macosx_11_0_arm64.whl")
    assert "linux-s390x" not in chosen
    assert "warning: no pip packages for linux-s390x" in logged(log)


def test_a_lock_is_installed_as_it_is(
    build: Build, prefix: Path, wheelhouse: Path, index: str
) -> None:
    locked = [locked_entry(wheelhouse, index, "alpha"), locked_entry(wheelhouse, index, "beta")]

    assert build(pip=None, pip_locked=locked) == {HERE: locked}

    assert imported(prefix, "beta") == "1.0"
    assert not list(site_packages(prefix).glob("*/direct_url.json"))


def test_a_lock_gives_what_resolving_gave(build: Build, prefix: Path) -> None:
    chosen = build("both", "Dotted.Name")[HERE]
    subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", prefix], check=True)

    build(pip=None, pip_locked=chosen)

    assert imported(prefix, "both") == "1.0"


def test_a_wrong_hash_is_refused(build: Build, prefix: Path, wheelhouse: Path, index: str) -> None:
    entry = locked_entry(wheelhouse, index, "beta")
    entry["hash"]["sha256"] = "0" * 64

    with pytest.raises(EngineError, match="Hash mismatch") as failure:
        build(pip=None, pip_locked=[entry])

    assert failure.value.kind == "hash"
    assert not (site_packages(prefix) / "beta").exists()


def test_a_lock_without_a_hash_is_refused(build: Build, wheelhouse: Path, index: str) -> None:
    entry = locked_entry(wheelhouse, index, "beta") | {"hash": {}}

    with pytest.raises(EngineError, match="beta has no sha256"):
        build(pip=None, pip_locked=[entry])


def test_an_sdist_is_refused_with_advice(build: Build) -> None:
    with pytest.raises(EngineError, match=r"CondaStore\.pip_allow_sdists") as failure:
        build("raw")

    assert failure.value.kind == "unsatisfiable"
    assert "raw" in failure.value.text


@pytest.mark.parametrize(
    ("requirement", "kind"),
    [
        ("nowhere", "unsatisfiable"),
        ("alpha>7", "unsatisfiable"),
        ("elsewhere", "unsatisfiable"),
        ("alpha >>> 3", "spec"),
        ("-r /etc/passwd", "spec"),
        ("alpha\n--find-links /etc", "spec"),
        ("alpha @ file:///etc/alpha-1.0-py3-none-any.whl", "spec"),
        ("alpha @ git+https://127.0.0.1:9/alpha", "spec"),
        ("alpha @ http://127.0.0.1:9/${HOME}/alpha-1.0-py3-none-any.whl", "spec"),
        ("./alpha", "spec"),
        ("--find-links=/etc", "spec"),
        ("--index-url /etc", "spec"),
        ("--extra-index-url=file:///etc", "spec"),
    ],
)
def test_what_is_wrong_has_a_kind(build: Build, requirement: str, kind: str) -> None:
    with pytest.raises(EngineError) as failure:
        build(requirement)

    assert failure.value.kind == kind


def test_a_file_that_is_gone_is_a_network_failure(build: Build, index: str) -> None:
    with pytest.raises(EngineError, match="404") as failure:
        build(f"beta @ {index}/gone/beta-1.0-py3-none-any.whl")

    assert failure.value.kind == "network"


def test_python_is_needed(build: Build, prefix: Path) -> None:
    (prefix / "bin" / "python").unlink()

    with pytest.raises(EngineError, match="needs python among the dependencies") as failure:
        build("alpha")

    assert failure.value.kind == "spec"


@pytest.mark.parametrize(
    "credential",
    [{"username": USER, "password": PASSWORD}, {"token": TOKEN}, {"bearer": TOKEN}],
    ids=["password", "token", "bearer"],
)
def test_credentials_reach_the_index_and_nothing_else(
    build: Build, private_index: str, log: list[dict[str, Any]], credential: dict[str, str]
) -> None:
    chosen = build(
        "alpha",
        f"--index-url {private_index}",
        credentials=[{"url": private_index, **credential}],
    )

    secrets = [*credential.values(), USER]
    assert not [secret for secret in secrets if secret in json.dumps([chosen, log])]
    assert len(chosen[HERE]) == 2


def test_credentials_in_an_index_url_stay_out_of_the_lock(
    build: Build, private_index: str, log: list[dict[str, Any]]
) -> None:
    with_user = private_index.replace("://", f"://{USER}:{PASSWORD.replace(' ', '%20')}@")

    chosen = build("beta", f"--extra-index-url={with_user}", "--trusted-host 127.0.0.1")

    assert chosen[HERE][0]["url"].startswith(private_index.removesuffix("/simple"))
    assert USER not in json.dumps([chosen, log])


def test_credentials_reach_locked_files(
    build: Build, prefix: Path, wheelhouse: Path, private_index: str
) -> None:
    locked = [locked_entry(wheelhouse, private_index, "beta")]
    credential = {"url": private_index, "username": USER, "password": PASSWORD}

    build(pip=None, pip_locked=locked, credentials=[credential])

    assert imported(prefix, "beta") == "1.0"


def test_missing_credentials_are_named(build: Build, private_index: str) -> None:
    elsewhere = {"url": f"{private_index}/other", "username": USER, "password": PASSWORD}

    with pytest.raises(EngineError, match="401") as failure:
        build("alpha", f"--index-url {private_index}", credentials=[elsewhere])

    assert failure.value.kind == "auth"


def test_no_secret_is_on_the_command_line() -> None:
    lines = ["alpha", "--index-url https://u:secret1@host/a", "--trusted-host=host"]
    credential = {"url": "https://other/", "username": "v", "password": "secret2"}

    sources = read_sources([*lines, "--extra-index-url https://other/b"], None, [credential])

    assert sources.requirements == ("alpha",)
    assert sources.arguments == (
        *("--default-index", "index0=https://host/a"),
        *("--index", "index1=https://other/b"),
        *("--allow-insecure-host", "host"),
    )
    assert sources.environment == {
        "UV_INDEX_INDEX0_USERNAME": "u",
        "UV_INDEX_INDEX0_PASSWORD": "secret1",
        "UV_INDEX_INDEX1_USERNAME": "v",
        "UV_INDEX_INDEX1_PASSWORD": "secret2",
    }


def test_a_pylock_without_a_file_is_explained() -> None:
    document = '[[packages]]\nname = "a"\nversion = "1"\nvcs = { type = "git", url = "x" }\n'

    with pytest.raises(EngineError, match="a comes neither from an index"):
        read_pylock(document)


def imported(prefix: Path, module: str) -> str:
    """The version of a module as the environment's own Python sees it."""
    code = f"import {module}; print({module}.__version__)"
    command = [str(prefix / "bin" / "python"), "-I", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def site_packages(prefix: Path) -> Path:
    (folder,) = prefix.glob("lib/python*/site-packages")
    return folder


def logged(log: list[dict[str, Any]]) -> str:
    return "\n".join(event["text"] for event in log if event["t"] == "log")


def own(prefix: Path, wheel: Path) -> Path:
    """Puts a distribution into the prefix as conda does: without uv's or pip's help."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site_packages(prefix))
    return wheel


def locked_entry(wheelhouse: Path, index: str, name: str) -> dict[str, Any]:
    wheel = wheelhouse / f"{name}-1.0-py3-none-any.whl"
    return {
        "name": name,
        "version": "1.0",
        "url": f"{index.removesuffix('/simple')}/{wheel.name}",
        "hash": {"sha256": hashlib.sha256(wheel.read_bytes()).hexdigest()},
    }


class PrivateHandler(http.server.SimpleHTTPRequestHandler):
    """Lets in whoever knows the password or the token."""

    def do_GET(self) -> None:
        pairs = (f"{USER}:{PASSWORD}", f"__token__:{TOKEN}")
        known = {"Basic " + base64.b64encode(pair.encode()).decode() for pair in pairs}
        if self.headers.get("Authorization") in known:
            super().do_GET()
        else:
            self.send_response(http.HTTPStatus.UNAUTHORIZED)
            self.send_header("WWW-Authenticate", 'Basic realm="wheels"')
            self.send_header("Content-Length", "0")
            self.end_headers()
