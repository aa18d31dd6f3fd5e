"""Runs every benchmark, each in a process of its own, and removes their files at the end."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.scene import CACHE, parser

BENCHMARKS = (
    "daemon",
    "build_warm",
    "build_cold",
    "build_parallel",
    "disk",
    "memory",
    "log_latency",
)


def main() -> int:
    """Returns 1 if a target was missed."""
    arguments = parser(__doc__).parse_args()
    base = arguments.directory or CACHE
    base.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="benchmarks-", dir=base))
    options = [f"--directory={directory}"]
    options += ["--quick"] * arguments.quick
    options += [f"--rounds={arguments.rounds}"] if arguments.rounds else []
    failed = []
    try:
        for name in BENCHMARKS:
            command = [sys.executable, "-m", f"benchmarks.{name}", *options]
            if subprocess.run(command).returncode != 0:
                failed.append(name)
    finally:
        if arguments.directory is None:
            shutil.rmtree(directory, ignore_errors=True)
    if failed:
        print(f"missed a target or failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
