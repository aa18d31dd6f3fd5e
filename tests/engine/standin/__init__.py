"""A stand-in for conda and micromamba on machines that have neither."""

import sys
from pathlib import Path

_PROGRAM = Path(__file__).with_name("program.py")


def make_standin(directory: Path, name: str, mode: str = "standin") -> Path:
    """Makes an executable called `conda` or `micromamba`; other modes make it misbehave."""
    directory.mkdir(parents=True, exist_ok=True)
    executable = directory / name
    executable.write_text(f"#!{sys.executable}\n{_PROGRAM.read_text()}")
    executable.chmod(0o755)
    (directory / "mode").write_text(mode)
    return executable
