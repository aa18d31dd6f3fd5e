"""Lockfiles and environment.yaml in every form, installed by those they are for."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from devtools.localchannel.index import write_repodata
from devtools.localchannel.package import File, Package
from tests.acceptance.harness import Daemon
from tests.acceptance.test_lockfile import packages, post_lockfile, text_of

HERE = "linux-64"

# What follows runs in a process of its own, as in this program all of rattler does.
RATTLER = """
import asyncio, os, sys
from pathlib import Path
from rattler import Gateway, LockFile, MatchSpec, Subdir, install
from rattler.explicit_environment import ExplicitEnvironmentSpec

form, path, prefix = sys.argv[1:]
platforms = [Subdir("linux-64"), Subdir("noarch")]


async def records():
    if form == "pixi":
        environment = LockFile.from_path(Path(path)).default_environment()
        return environment.conda_repodata_records()["linux-64"]
    spec = ExplicitEnvironmentSpec.from_path(Path(path))
    assert spec.platform == Subdir("linux-64")
    wanted = [MatchSpec(package.url) for package in spec.packages]
    found = await Gateway().query([], platforms, wanted, recursive=False)
    return [record for records in found for record in records]


async def main():
    cache = Path(prefix).with_name("cache")
    await install(await records(), prefix, cache_dir=cache, show_progress=False)


asyncio.run(main())
# Rattler's threads may crash an interpreter that ends in an orderly way.
os._exit(0)
"""


@pytest.fixture(scope="module")
def built(shared_daemon: Daemon, channel: str) -> int:
    """A build of a real environment."""
    wanted = {"name": "forms", "channels": [channel], "dependencies": ["python", "six", "pip"]}
    build_id = shared_daemon.submit({**wanted, "variables": {"A": "1.10"}})
    shared_daemon.completed(build_id)
    return build_id


def in_form(daemon: Daemon, build_id: int, form: str, **query: str) -> str:
    path = f"/build/{build_id}/lockfile/"
    answer = daemon.request("GET", path, params={"format": form, **query})
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize(("form", "file_name"), [("explicit", "x.txt"), ("pixi", "pixi.lock")])
def test_rattler_installs_what_we_give(
    shared_daemon: Daemon, built: int, tmp_path: Path, form: str, file_name: str
) -> None:
    file, prefix = tmp_path / file_name, tmp_path / "prefix"
    file.write_text(in_form(shared_daemon, built, form))
    subprocess.run([sys.executable, "-c", RATTLER, form, str(file), str(prefix)], check=True)
    installed = [json.loads(path.read_bytes()) for path in prefix.glob("conda-meta/*.json")]
    assert {(meta["name"], meta["version"]) for meta in installed} == {
        (name, version) for name, version, _ in packages(shared_daemon, built)
    }
    code = "import six; print(six.__version__)"
    command = [str(prefix / "bin" / "python"), "-I", "-c", code]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("form", ["conda-lock.yml", "explicit", "pixi"])
def test_what_we_give_can_be_posted_and_locks_the_same(
    shared_daemon: Daemon, built: int, form: str
) -> None:
    copy = post_lockfile(shared_daemon, in_form(shared_daemon, built, form), "forms-again")
    shared_daemon.completed(copy)
    assert packages(shared_daemon, copy) == packages(shared_daemon, built)
    first, second = (json.loads(text_of(shared_daemon, number)) for number in (built, copy))
    # Also what an explicit file says nothing about: it was read from the packages.
    assert second["package"] == first["package"]
    again = post_lockfile(shared_daemon, text_of(shared_daemon, copy), "forms-third")
    shared_daemon.completed(again)
    assert text_of(shared_daemon, again) == text_of(shared_daemon, copy)


def test_pip_packages_are_in_every_form(shared_daemon: Daemon, channel: str, index: str) -> None:
    daemon = shared_daemon
    pip = ["alpha", f"--index-url {index}"]
    wanted = {"name": "pip-forms", "channels": [channel], "dependencies": ["python", {"pip": pip}]}
    original = daemon.submit(wanted)
    daemon.completed(original)

    def pip_of(build_id: int) -> list[dict[str, Any]]:
        entries = json.loads(text_of(daemon, build_id))["package"]
        keys = ("name", "version", "url", "hash")
        return [{key: p[key] for key in keys} for p in entries if p["manager"] == "pip"]

    for form in ("explicit", "pixi"):
        copy = post_lockfile(daemon, in_form(daemon, original, form), f"pip-{form}")
        daemon.completed(copy)
        assert pip_of(copy) == pip_of(original)
        python = daemon.link(f"pip-{form}") / "bin" / "python"
        subprocess.run([str(python), "-I", "-c", "import alpha, beta"], check=True)

    asked = daemon.request("GET", f"/build/{original}/yaml/?pinned=history").text
    assert yaml.safe_load(asked) == wanted
    versions = daemon.request("GET", f"/build/{original}/yaml/?pinned=versions").text
    assert yaml.safe_load(versions)["dependencies"][-1] == {"pip": ["alpha==1.0", "beta==2.0"]}
    page = daemon.client.get(f"{daemon.url}/ui/build/{original}/?tab=packages").text
    rows = dict(re.findall('<tr><th scope="row">(alpha|beta)</th>(.*?)</tr>', page, re.DOTALL))
    assert "<td>1.0</td>" in rows["alpha"]
    assert "asked for" in rows["alpha"]
    assert "needed by alpha" in rows["beta"]


def test_environment_yaml_as_exact_as_wanted(
    shared_daemon: Daemon, built: int, channel: str
) -> None:
    def get(query: str) -> Any:
        answer = shared_daemon.request("GET", f"/build/{built}/yaml/{query}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"] == "text/yaml; charset=utf-8"
        return answer.text

    exact = get("?pinned=exact")
    assert exact == get("")
    assert yaml.safe_load(get("?pinned=history")) == {
        "name": "forms",
        "channels": [channel],
        "dependencies": ["python", "six", "pip"],
        "variables": {"A": "1.10"},
    }
    versions = yaml.safe_load(get("?pinned=versions"))
    assert versions["dependencies"] == [
        entry.rpartition("=")[0] for entry in yaml.safe_load(exact)["dependencies"]
    ]
    copy = shared_daemon.submit(yaml.safe_dump({**versions, "name": "forms-versions"}))
    shared_daemon.completed(copy)
    assert packages(shared_daemon, copy) == packages(shared_daemon, built)


def test_a_lockfile_does_not_say_what_was_asked_for(shared_daemon: Daemon, tiny: str) -> None:
    wanted = {"name": "asked", "channels": [tiny], "dependencies": ["harmless"]}
    original = shared_daemon.submit(wanted)
    shared_daemon.completed(original)
    copy = post_lockfile(shared_daemon, text_of(shared_daemon, original), "not-asked")
    shared_daemon.completed(copy)
    answer = shared_daemon.request("GET", f"/build/{copy}/yaml/?pinned=history")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        f"build {copy} was made from a lockfile, which does not say what was asked for;"
        " versions and exact can be had",
    )


@pytest.mark.parametrize(
    ("form", "media_type", "file_name"),
    [
        ("conda-lock.yml", "text/yaml", "forms.conda-lock.yml"),
        ("explicit", "text/plain", "forms-linux-64.txt"),
        ("pixi", "text/yaml", "pixi.lock"),
    ],
)
def test_answers_are_files_that_a_client_keeps(
    shared_daemon: Daemon, built: int, form: str, media_type: str, file_name: str
) -> None:
    path = f"/environment/default/forms/lockfile/?format={form}"
    answer = shared_daemon.request("GET", path)
    assert answer.text == in_form(shared_daemon, built, form)
    assert answer.headers["Content-Type"] == f"{media_type}; charset=utf-8"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{file_name}"'
    again = shared_daemon.request("GET", path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("path", "status", "why"),
    [
        ("lockfile/?format=toml", 422, "'conda-lock.yml', 'explicit' or 'pixi'"),
        ("yaml/?pinned=loosely", 422, "'exact', 'versions' or 'history'"),
        ("lockfile/?format=explicit&platform=amiga", 400, "osx-arm64"),
        ("lockfile/?format=explicit&platform=win-64", 400, "but for linux-64"),
        ("lockfile/?format=pixi&platform=linux-64", 400, "explicit only"),
        ("lockfile/?platform=linux-64", 400, "explicit only"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(
    shared_daemon: Daemon, built: int, path: str, status: int, why: str
) -> None:
    answer = shared_daemon.request("GET", f"/build/{built}/{path}")
    assert answer.status_code == status
    assert why in answer.text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@EXPLICIT\n\nhttps://example.org/noarch/x-1-0.conda\n", "line 3: "),
        ("# platform: osx-arm64\n@EXPLICIT\n", "but for osx-arm64"),
        ("@EXPLICIT\nhttps://u:hunter2@example.org/noarch/x-1-0.conda#00\n", "credentials"),
        ("version: 6\nenvironments: {}\npackages: []\n", "'default'; it has none"),
        ("version: 99\nenvironments: {}\npackages: []\n", "6 or 7, not 99"),
        ("version: 6\nenvironments: {default: {packages: {}}}\npackages: [{}]\n", "packages[0]"),
    ],
)
def test_lockfiles_that_can_not_be_used_are_explained(
    shared_daemon: Daemon, text: str, why: str
) -> None:
    answer = shared_daemon.post(text, is_lockfile=True, environment_name="never")
    assert answer.status_code == 400
    assert why in answer.json()["message"]
    assert "hunter2" not in answer.text
    assert shared_daemon.request("GET", "/environment/default/never/").status_code == 404


PLATFORMS = (HERE, "linux-aarch64", "osx-arm64")


@pytest.fixture
def wide(tmp_path: Path) -> str:
    """The URL of a channel with a package for each of three platforms, and one for all."""
    channel = tmp_path / "wide"
    app = Package("app", "1.0", "0", "noarch", [File("share/app", b"app")], ["lib >=1"])
    app.noarch = "generic"
    libs = [
        Package("lib", "1.2", "h0", platform, [File("lib/lib", platform.encode())])
        for platform in PLATFORMS
    ]
    for package in (app, *libs):
        (channel / package.subdir).mkdir(parents=True)
        write_repodata(channel / package.subdir, [package.write(channel)])
    return channel.as_uri()


def test_a_lockfile_holds_all_platforms_that_were_solved_for(
    shared_daemon: Daemon, wide: str
) -> None:
    daemon = shared_daemon
    assert daemon.request("POST", "/namespace/wide/").status_code == 200
    # The server's own need not be named.
    settings = {"conda_solve_platforms": list(PLATFORMS[1:])}
    assert daemon.request("PUT", "/setting/wide/", json=settings).status_code == 200
    wanted = {"name": "wide", "channels": [wide], "dependencies": ["app"]}
    build_id = daemon.submit(wanted, namespace="wide")
    daemon.completed(build_id)
    locked = json.loads(text_of(daemon, build_id))
    assert locked["metadata"]["platforms"] == sorted(PLATFORMS)
    assert {(package["name"], package["platform"]) for package in locked["package"]} == {
        (name, platform) for name in ("app", "lib") for platform in PLATFORMS
    }
    assert (daemon.link("wide", "wide") / "lib" / "lib").read_text() == HERE

    for platform in PLATFORMS:
        text = in_form(daemon, build_id, "explicit", platform=platform)
        lib, app = [line for line in text.splitlines() if line.startswith(wide)]
        assert f"/{platform}/lib-1.2-h0.conda#" in lib
        assert "/noarch/app-1.0-0.conda#" in app
    pixi = yaml.safe_load(in_form(daemon, build_id, "pixi"))
    assert sorted(pixi["environments"]["default"]["packages"]) == sorted(PLATFORMS)
    assert yaml.safe_load(in_form(daemon, build_id, "conda-lock.yml")) == locked

    # From pixi's form and back, for all platforms.
    text = in_form(daemon, build_id, "pixi")
    copy = post_lockfile(daemon, text, "wide-again", namespace="wide")
    daemon.completed(copy)
    assert json.loads(text_of(daemon, copy))["package"] == locked["package"]

    answer = daemon.request("PUT", "/setting/wide/", json={"conda_solve_platforms": ["amiga"]})
    assert answer.status_code == 400
    assert "amiga" in answer.json()["message"]
