"""Container images: what a first one costs, what the next ones share, and one that is there."""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Table
from benchmarks.scene import Scene, Specification, run
from benchmarks.served import Daemon, running
from benchmarks.usage import cpu_seconds, family_cpu_seconds

TITLE = "Images of most of the reference environment, of all of it, and of the same lockfile again"
BASELINE = "the CPU time to compile, to tar and to compress the packages, each by a plain tool"

# With these, a fifth of the packages of the second image are new.
_ADDED = ("boto3", "statsmodels", "fastapi", "uvicorn", "aiohttp", "pytest", "distributed")
_ADDED_QUICK = ("rich",)
_POLL_S = 0.005
_LEVEL = "2"
_PACK = """\
import os, sys, tarfile
from isal import isal_zlib

class Sink:
    packer = isal_zlib.compressobj(int(sys.argv[1]), isal_zlib.DEFLATED, 31)
    def write(self, data):
        self.packer.compress(data)

for package in sys.argv[2:]:
    with tarfile.open(mode="w|", fileobj=Sink(), bufsize=1 << 18) as archive:
        archive.add(package, ".")
"""


def measure(scene: Scene) -> Table:
    """Makes three images in a new daemon, and does the same work by hand."""
    table = scene.table(TITLE, BASELINE)
    used, bare, times, repeats = [], [], [], []
    next_used, next_times = [], []
    for _ in range(scene.rounds):
        with running(scene.fresh("data"), "--CondaStoreWorker.warm_solvers=0") as daemon:
            some, everything = _specifications(scene)
            first, taken, cpu = _timed_image(daemon, some)
            times.append(taken)
            used.append(cpu)
            bare.append(_bare_cpu_seconds(daemon))
            second, taken, cpu = _timed_image(daemon, everything)
            next_times.append(taken)
            next_used.append(cpu)
            third, taken, _ = _timed_image(daemon, {**everything, "name": "again"})
            repeats.append(taken)
            assert third == second
            table.note(_shared(daemon, first, second))
    table.ratio("CPU of the first / by hand", used, bare, most=1.5)
    table.value("the first", times, "s")
    table.ratio("one that shares 80 % / the first", next_times, times, most=0.25)
    table.ratio("the same, CPU", next_used, used)
    table.value("the same packages again", repeats, "s", most=0.1)
    return table


def _specifications(scene: Scene) -> tuple[Specification, Specification]:
    added = _ADDED_QUICK if scene.quick else _ADDED
    everything = scene.reference
    some = [name for name in everything["dependencies"] if name not in added]
    return {**everything, "name": "some", "dependencies": some}, everything


def _timed_image(daemon: Daemon, specification: Specification) -> tuple[str, float, float]:
    """Returns the digest of an image, the time it took, and the CPU time."""
    build_id = daemon.submit(specification)
    daemon.completed(build_id)
    os.sync()
    before = _cpu(daemon)
    began = time.perf_counter()
    path = f"/build/{build_id}/artifacts/"
    daemon.request("POST", f"{path}DOCKER_MANIFEST/")
    while not (found := _image(daemon, build_id)):
        time.sleep(_POLL_S)
    taken = time.perf_counter() - began
    # The child's last moments count as well.
    while daemon.processes():
        time.sleep(_POLL_S)
    return found, taken, _cpu(daemon) - before


def _image(daemon: Daemon, build_id: int) -> str | None:
    # The database is asked, because answers would cost the daemon time that is measured.
    rows = daemon.query(f"SELECT manifest_digest FROM image WHERE build_id = {build_id}")
    failed = "SELECT error FROM task WHERE kind = 'image' AND state = 'FAILED'"
    for (error,) in daemon.query(failed):
        raise RuntimeError(error)
    return str(rows[0][0]) if rows else None


def _cpu(daemon: Daemon) -> float:
    return cpu_seconds(daemon.pid) + family_cpu_seconds(daemon.pid)


def _bare_cpu_seconds(daemon: Daemon) -> float:
    """Returns the CPU time of the same work by hand, on the packages in the store."""
    packages = sorted(path for path in (daemon.store / ".pkgs/store").iterdir() if path.is_dir())
    python = daemon.link("some") / "bin" / "python"
    for package in packages:
        modules = package / "site-packages"
        if modules.is_dir():
            output = daemon.data / "compiled" / package.name
            output.parent.mkdir(exist_ok=True)
            subprocess.run(["cp", "-r", modules, output], check=True)
    compiled = [str(daemon.data / "compiled")]
    command = [str(python), "-I", "-S", "-W", "ignore", "-m", "compileall", "-q", "-f"]
    copied = os.times()
    subprocess.run([*command, *compiled], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _keep_byte_code(daemon.data / "compiled")
    pack = [sys.executable, "-c", _PACK, _LEVEL]
    subprocess.run([*pack, *map(str, packages), *compiled], check=True)
    return _children(os.times()) - _children(copied)


def _children(times: os.times_result) -> float:
    return times.children_user + times.children_system


def _keep_byte_code(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            path.unlink()


def _shared(daemon: Daemon, first: str, second: str) -> str:
    counts = []
    for digest in (first, second):
        query = f"SELECT blob_digest FROM manifest_blob WHERE manifest_digest = '{digest}'"
        counts.append({name for (name,) in daemon.query(query)})
    size = dict(daemon.query("SELECT digest, size FROM blob"))
    new = counts[1] - counts[0]
    whole, added = (sum(size[name] for name in names) / 1e6 for names in (counts[1], new))
    layers = f"{len(counts[0])} blobs, then {len(counts[1])}, of which {len(new)} are new"
    return f"{layers} ({added:.0f} of {whole:.0f} MB)"


if __name__ == "__main__":
    run(measure)
