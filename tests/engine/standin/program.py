"""A stand-in that speaks like conda, or like micromamba if that is its name.

It really solves, fetches and installs, by means of py-rattler. What it prints has the shapes that
the sources of conda and mamba show. So it checks our side of the conversation against them; how
the real tools solve and install, and what else they may print, only the real tools can show.

A file `mode` beside it says `standin`, or how it shall misbehave: `crash`, `silent`, `garbage`,
`endless`, `noisy`, `hang`, `forge` or `forget`.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

from rattler import (
    ChannelPriority,
    Gateway,
    GenericVirtualPackage,
    MatchSpec,
    PackageName,
    PackageRecord,
    RepoDataRecord,
    Subdir,
    Version,
    VirtualPackage,
    install,
    solve,
)
from rattler.exceptions import GatewayError, SolverError
from rattler.package import BuildString
from rattler.package_cache import PackageCache, ValidationMode
from rattler.package_streaming import extract

ME = Path(sys.argv[0])
IS_CONDA = ME.name == "conda"
MODE = ME.with_name("mode").read_text()


def main() -> None:
    """Does one `create`."""
    arguments = parse_arguments()
    misbehave()
    if arguments.dry_run:
        answer_plan(arguments)
    elif arguments.download_only:
        fetch(explicit_packages(arguments.file))
        say({"success": True})
    else:
        link(explicit_packages(arguments.file), arguments.prefix)
        if not IS_CONDA:
            say({"success": True, "prefix": str(arguments.prefix)})


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    assert sys.argv[1] == "create"
    parser.add_argument("--json", action="store_true", required=True)
    parser.add_argument("--yes", action="store_true", required=True)
    parser.add_argument("--prefix", type=Path, required=True)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--download-only", action="store_true")
    parser.add_argument("--offline", action="store_true")
    parser.add_argument("--override-channels", action="store_true")
    parser.add_argument("--strict-channel-priority", action="store_true")
    parser.add_argument("--channel", action="append", default=[])
    parser.add_argument("--file", type=Path)
    parser.add_argument("specs", nargs="*")
    return parser.parse_args(sys.argv[2:])


def misbehave() -> None:
    if MODE == "crash":
        print("about to divide by zero", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    if MODE == "silent":
        sys.exit()
    if MODE == "garbage":
        print('{"success": tr\n[[[')
        sys.exit()
    while MODE == "endless":
        sys.stdout.write("{" * 2**20)
    if MODE == "noisy":
        for _ in range(2**16):
            print("complaint " * 10, file=sys.stderr)
    if MODE == "hang":
        time.sleep(3600)


def answer_plan(arguments: argparse.Namespace) -> None:
    try:
        records = asyncio.run(solved(arguments.channel, arguments.specs))
    except SolverError as error:
        fail_to_solve(str(error))
    except GatewayError as error:
        fail_to_connect(str(error))
    full = [json.loads(record.to_json()) for record in records]
    linked = [conda_link(record) if IS_CONDA else mamba_item(record) for record in full]
    fetched = full if IS_CONDA else linked
    actions = {"FETCH": fetched, "LINK": linked, "PREFIX": str(arguments.prefix)}
    say({"success": True, "dry_run": True, "prefix": str(arguments.prefix), "actions": actions})


async def solved(channels: list[str], specs: list[str]) -> list[RepoDataRecord]:
    subdir = os.environ["CONDA_SUBDIR"]
    return await solve(
        channels,
        [MatchSpec(spec) for spec in specs],
        gateway=Gateway(cache_dir=first_package_directory() / "cache"),
        platforms=[Subdir(subdir), Subdir("noarch")],
        virtual_packages=detected(subdir),
        channel_priority=ChannelPriority.Strict,
    )


def detected(subdir: str) -> list[GenericVirtualPackage]:
    """The machine's own virtual packages, if it is of this kind, and all that are overridden."""
    packages = {}
    if subdir == str(Subdir.current()):
        own = [package.into_generic() for package in VirtualPackage.detect()]
        packages = {package.name.normalized: package for package in own}
    for variable, value in os.environ.items():
        kind = variable.removeprefix("CONDA_OVERRIDE_").lower()
        if variable != kind.upper() and kind != "archspec":
            name = f"__{kind}"
            packages[name] = GenericVirtualPackage(
                PackageName(name), Version(value), BuildString("0")
            )
    return list(packages.values())


def conda_link(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "base_url": record["channel"].rpartition("/")[0],
        "build_number": record["build_number"],
        "build_string": record["build"],
        "channel": record["channel"].rpartition("/")[2],
        "dist_name": f"{record['name']}-{record['version']}-{record['build']}",
        "name": record["name"],
        "platform": record["subdir"],
        "version": record["version"],
    }


def mamba_item(record: dict[str, Any]) -> dict[str, Any]:
    features = record.get("track_features") or []
    return {**record, "build_string": record["build"], "track_features": ",".join(features)}


def explicit_packages(file: Path) -> list[tuple[str, str]]:
    """The URLs of a list, with the md5 of each."""
    first, *lines = file.read_text().splitlines()
    assert first == "@EXPLICIT"
    return [(url, md5) for url, _, md5 in (line.partition("#") for line in lines)]


def package_directories() -> list[Path]:
    return [Path(directory) for directory in os.environ["CONDA_PKGS_DIRS"].split(",")]


def first_package_directory() -> Path:
    directory = package_directories()[0]
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def find(url: str, md5: str) -> Path | None:
    """The archive of a package in one of the caches."""
    name = url.rpartition("/")[2]
    archives = [directory / name for directory in package_directories()]
    return next((each for each in archives if each.exists() and fits(each, md5)), None)


def fits(archive: Path, md5: str) -> bool:
    return not md5 or hashlib.md5(archive.read_bytes()).hexdigest() == md5


def fetch(packages: list[tuple[str, str]]) -> None:
    for url, md5 in packages:
        if find(url, md5) is None:
            fetch_one(url, md5)


def fetch_one(url: str, md5: str) -> None:
    name = url.rpartition("/")[2]
    archive = first_package_directory() / name
    try:
        with urllib.request.urlopen(url) as response, open(archive, "wb") as file:
            shutil.copyfileobj(response, file)
    except OSError as error:
        fail_to_connect(f"HTTP error for {url}: {error}")
    if not fits(archive, md5):
        fail_with("ChecksumMismatchError", f"Conda detected a mismatch of {url}: {md5}")
    if MODE == "forge":
        with open(archive, "ab") as file:
            file.write(b"more")
    if IS_CONDA:
        print(json.dumps({"fetch": name, "finished": True, "maxval": 1, "progress": 1}) + "\n\0")
    extract(archive, tree_of(archive))


def tree_of(archive: Path) -> Path:
    return archive.with_name(archive.name.removesuffix(".conda").removesuffix(".tar.bz2"))


def link(packages: list[tuple[str, str]], prefix: Path) -> None:
    archives = {url: find(url, md5) for url, md5 in packages}
    if None in archives.values():
        fail_with("SpecNotFound", "Missing package cache records")
    if MODE == "forget":
        archives.popitem()
    view = first_package_directory() / "view"
    view.mkdir()
    records = []
    for url, archive in archives.items():
        assert archive is not None
        (view / tree_of(archive).name).symlink_to(tree_of(archive))
        records.append(read_record(url, archive))
    cache = PackageCache.new_layered([view], validation_mode=ValidationMode.skip())
    asyncio.run(install(records, prefix, package_cache=cache, execute_link_scripts=False))


def read_record(url: str, archive: Path) -> RepoDataRecord:
    package = PackageRecord.from_index_json(
        tree_of(archive) / "info" / "index.json",
        archive.stat().st_size,
        hashlib.sha256(archive.read_bytes()).hexdigest(),
        hashlib.md5(archive.read_bytes()).hexdigest(),
    )
    return RepoDataRecord(package, archive.name, url, url.rsplit("/", 2)[0])


def fail_to_solve(explanation: str) -> NoReturn:
    if IS_CONDA:
        fail_with(
            "LibMambaUnsatisfiableError", f"Encountered problems while solving:\n{explanation}"
        )
    print(
        f"error    libmamba Could not solve for environment specs\n{explanation}", file=sys.stderr
    )
    print("critical libmamba Could not solve for environment specs", file=sys.stderr)
    say({"success": False, "solver_problems": [explanation.splitlines()[0]]})
    sys.exit(1)


def fail_to_connect(explanation: str) -> NoReturn:
    if IS_CONDA:
        fail_with("UnavailableInvalidChannel", explanation)
    print(f"error    libmamba Download error {explanation}", file=sys.stderr)
    sys.exit(1)


def fail_with(exception: str, message: str) -> NoReturn:
    """Ends as conda does; micromamba says the same in the text that it prints."""
    if not IS_CONDA:
        print(f"critical libmamba {exception}: {message}", file=sys.stderr)
        sys.exit(1)
    error = f"{exception}: {message}"
    kind = f"<class 'conda.exceptions.{exception}'>"
    say({"error": error, "exception_name": exception, "exception_type": kind, "message": message})
    sys.exit(1)


def say(document: dict[str, Any]) -> None:
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    except Exception:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of rattler may still run, and abort the interpreter when it ends in order.
    os._exit(status)
