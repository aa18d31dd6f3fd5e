"""Runs every benchmark, each in a process of its own, and removes their files at the end."""

import subprocess
import sys
from collections.abc import Sequence

from benchmarks.scene import BYTES_OF_ALL, parser, workplace

BENCHMARKS = (
    "daemon",
    "build_warm",
    "build_cold",
    "build_parallel",
    "disk",
    "image",
    "memory",
    "archive",
    "log_latency",
    "log_tails",
    "api",
    "ui",
    "downloads",
    "index",
    "connections",
    "log_redis",
    "storage",
    "pool",
    "removal",
)


def main() -> int:
    """Returns 1 if a target was missed."""
    arguments = parser(__doc__).parse_args()
    with workplace(arguments, BYTES_OF_ALL) as directory:
        options = [f"--directory={directory}"]
        options += ["--quick"] * arguments.quick
        options += [f"--rounds={arguments.rounds}"] if arguments.rounds else []
        failed = [name for name in BENCHMARKS if not _passes(name, options)]
    if failed:
        print(f"missed a target or failed: {', '.join(failed)}")
    return 1 if failed else 0


def _passes(name: str, options: Sequence[str]) -> bool:
    command = [sys.executable, "-m", f"benchmarks.{name}", *options]
    return subprocess.run(command).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
