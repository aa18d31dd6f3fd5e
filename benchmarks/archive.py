"""An archive and an installer of the reference environment, and what conda-pack takes for one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bare import BareEngine, Hand
from benchmarks.measure import Table, seconds
from benchmarks.scene import Scene, run
from condastore.engine.confine import limit

MB = 1e6
TITLE = "Archive and installer of the reference environment"
BASELINE = "conda-pack with its defaults, on the same prefix"


def measure(scene: Scene) -> Table:
    """Packs one prefix without fragments, with those of other archives, and by conda-pack."""
    table = scene.table(TITLE, BASELINE)
    hand = Hand(scene.fresh("hand"))
    prefix = hand.build(scene.reference)
    hand.close()
    packing = Packing(hand, prefix, scene.fresh("packed"))
    first, cached, zstd_first, zstd_cached, installer, baseline = [], [], [], [], [], []
    for _ in range(scene.rounds):
        packing.forget()
        baseline.append(packing.conda_pack())
        first.append(packing.archive("tar.gz"))
        cached.append(packing.archive("tar.gz"))
        installer.append(packing.installer())
        zstd_first.append(packing.archive("tar.zst"))
        zstd_cached.append(packing.archive("tar.zst"))
    table.ratio("tar.gz, nothing cached / conda-pack", first, baseline, most=1 / 4)
    table.ratio("tar.gz, packages cached / conda-pack", cached, baseline, most=1 / 30)
    table.ratio("tar.zst, nothing cached / conda-pack", zstd_first, baseline)
    table.ratio("tar.zst, packages cached / conda-pack", zstd_cached, baseline)
    table.ratio("installer / tar.gz, packages cached", installer, cached, most=1.2)
    sizes = packing.sizes
    table.ratio("size of tar.gz", [sizes["tar.gz"]], [sizes["conda-pack"]], unit="MB")
    table.ratio("size of tar.zst", [sizes["tar.zst"]], [sizes["conda-pack"]], unit="MB")
    table.ratio("size of installer / tar.gz", [sizes["installer"]], [sizes["tar.gz"]], 1.2, "MB")
    table.value("peak memory of a job", [packing.peak_bytes / MB], "MB", most=200)
    return table


class Packing:
    """Packs one prefix in several ways; notes the sizes, and keeps none of the files."""

    def __init__(self, hand: Hand, prefix: Path, directory: Path) -> None:
        self._store = hand.store
        self._prefix = prefix
        self._output = directory / "packed.tar.gz"
        self.sizes: dict[str, float] = {}
        self.peak_bytes = 0

    def conda_pack(self) -> float:
        """Returns how long conda-pack takes."""
        command = [str(Path(sys.executable).with_name("conda-pack")), "--quiet"]
        pack = partial(
            subprocess.run,
            [*command, "--prefix", self._prefix, "--output", self._output],
            env={**os.environ, "TMPDIR": str(self._output.parent)},
            check=True,
            # As nice as the jobs, which else would lose on a busy machine.
            start_new_session=True,
            preexec_fn=partial(limit, "archive", None),
        )
        return self._timed("conda-pack", pack)

    def archive(self, archive_format: str) -> float:
        """Returns how long an archive takes, in a process of its own."""
        job = {"job": "archive", "format": archive_format}
        return self._timed(archive_format, partial(self._pack, job))

    def installer(self) -> float:
        """Returns how long an installer takes, in a process of its own."""
        job = {"job": "installer", "name": "reference", "version": "1"}
        return self._timed("installer", partial(self._pack, job))

    def forget(self) -> None:
        """Forgets what was packed before."""
        shutil.rmtree(self._store.packages / "fragments", ignore_errors=True)

    def _pack(self, job: dict[str, Any]) -> None:
        engine = BareEngine(self._store.scratch)
        engine.do(
            {
                "v": 1,
                **job,
                "prefix": str(self._prefix),
                "packages_dir": str(self._store.packages),
                "output": str(self._output),
                "fragments": True,
                "limits": {},
            }
        )
        engine.end()
        self.peak_bytes = max(self.peak_bytes, engine.peak_bytes)

    def _timed(self, what: str, pack: Callable[[], object]) -> float:
        duration = seconds(pack)
        self.sizes[what] = self._output.stat().st_size / MB
        self._output.unlink()
        return duration


if __name__ == "__main__":
    run(measure)
