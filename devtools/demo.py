"""The demonstration behind `scripts/demo`: start condastore, build an environment, use it."""

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from websockets.sync.client import connect

from devtools.localchannel import make_channel

HERE = Path(".demo")
SPECIFICATION = Path("examples/data-science.yaml")
CHANNEL = "https://conda.anaconda.org/conda-forge/noarch/repodata.json.zst"
REACH_TIMEOUT_S = 5
START_TIMEOUT_S = 60
PICTURE_WIDTH = 110
PICTURE_LINES = 7
USE = """\
import numpy, pandas, matplotlib, sys
table = pandas.DataFrame({"x": numpy.arange(5)}).assign(square=lambda t: t.x ** 2)
print(table.to_string(index=False))
print("python", sys.version.split()[0], "numpy", numpy.__version__,
      "pandas", pandas.__version__, "matplotlib", matplotlib.__version__)
"""


class Service:
    """The demonstration's daemon, which stays when the demonstration ends."""

    def __init__(self) -> None:
        self._output = HERE / "daemon.log"
        self._pid_file = HERE / "daemon.pid"

    def start(self, *settings: str) -> None:
        """Starts it, unless it runs already."""
        if self._pid() is not None:
            return
        HERE.mkdir(exist_ok=True)
        command = [
            sys.executable,
            "-m",
            "condastore",
            "serve",
            f"--data={HERE / 'data'}",
            *settings,
        ]
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._pid_file.write_text(str(process.pid))
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._says(r"change anything: (\S+)"):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the daemon did not start:\n{self._output.read_text()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops it and waits until it is gone."""
        pid = self._pid()
        if pid is None:
            sys.exit("the demonstration's daemon does not run")
        os.kill(pid, signal.SIGTERM)
        while self._pid() is not None:
            time.sleep(0.05)
        self._pid_file.unlink()

    @property
    def url(self) -> str:
        """Where it serves, up to the API's path."""
        return self._says(r"serves (\S+)/api/v1/")

    @property
    def token(self) -> str:
        """What a request that changes something must carry."""
        return self._says(r"change anything: (\S+)")

    def post(self, specification: str) -> int:
        """Posts a specification; returns the build's id."""
        request = urllib.request.Request(
            f"{self.url}/api/v1/specification/",
            data=json.dumps({"specification": specification}).encode(),
            headers={"Authorization": f"Bearer {self.token}"},
        )
        try:
            with urllib.request.urlopen(request) as response:
                build_id: int = json.load(response)["data"]["build_id"]
        except urllib.error.HTTPError as error:
            sys.exit(f"the specification was refused: {error.read().decode()}")
        return build_id

    def build(self, build_id: int) -> dict[str, Any]:
        """Returns a build as the API shows it."""
        with urllib.request.urlopen(f"{self.url}/api/v1/build/{build_id}/") as response:
            build: dict[str, Any] = json.load(response)["data"]
        return build

    def _says(self, pattern: str) -> str:
        text = self._output.read_text() if self._output.exists() else ""
        found = re.search(pattern, text)
        return found[1] if found else ""

    def _pid(self) -> int | None:
        """The process id, if that process still runs and is ours."""
        try:
            pid = int(self._pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if b"condastore" in command else None


class View:
    """The live log: what scrolls by, and a bar for each phase.

    A picture has no room for all of it, so of each piece of text only the first lines go there.
    """

    def __init__(self, console: Console, *, for_picture: bool) -> None:
        self._lines = PICTURE_LINES if for_picture else None
        self._progress = Progress(
            TextColumn("{task.description:>12}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} {task.fields[unit]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self._bars: dict[str, TaskID] = {}

    def show(self, service: Service, build_id: int) -> str:
        """Shows a build until it ends; returns its status."""
        url = service.url.replace("http", "ws", 1)
        address = f"{url}/api/v1/build/{build_id}/logs/ws?offset=0"
        with self._progress, connect(address, max_size=None) as frames:
            for message in frames:
                frame = json.loads(message)
                if frame.get("event") == "status":
                    return str(frame["status"])
                self._take(frame)
        return "UNKNOWN"

    def _take(self, frame: dict[str, Any]) -> None:
        if "text" in frame:
            for line in frame["text"].splitlines()[: self._lines]:
                self._progress.console.print(
                    line,
                    style="dim",
                    highlight=False,
                    markup=False,
                    soft_wrap=self._lines is None,
                    no_wrap=True,
                    overflow="ellipsis",
                )
        elif frame["event"] == "phase":
            self._progress.console.print(f"▸ {frame['phase']}", style="bold")
        elif frame["event"] == "progress":
            self._advance(frame)

    def _advance(self, frame: dict[str, Any]) -> None:
        phase = frame["phase"]
        in_bytes = frame["bytes_total"] > 0
        done, total = (
            (frame["bytes"] / 1e6, frame["bytes_total"] / 1e6)
            if in_bytes
            else (frame["done"], frame["total"])
        )
        if phase not in self._bars:
            unit = "MB" if in_bytes else ""
            self._bars[phase] = self._progress.add_task(phase, total=total, unit=unit)
        self._progress.update(self._bars[phase], completed=done, total=total)


def main() -> None:
    """Shows what condastore does, from nothing to a running Python."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--stop", action="store_true", help="stop the daemon that the demo left")
    parser.add_argument("--svg", type=Path, help="also draw what is shown, for the README")
    parser.add_argument("--port", type=int, help="port of the daemon (8080, or a free one)")
    arguments = parser.parse_args()
    service = Service()
    if arguments.stop:
        service.stop()
        print("stopped")
        return
    picture = arguments.svg is not None
    console = Console(record=picture, width=PICTURE_WIDTH if picture else None)
    port = free_port(8080) if arguments.port is None else arguments.port
    service.start(f"--port={port}", *channel_settings(console))
    began = time.monotonic()
    console.print(f"\nposting [bold]{SPECIFICATION}[/] to {service.url}/api/v1/specification/")
    build_id = service.post(SPECIFICATION.read_text())
    status = View(console, for_picture=picture).show(service, build_id)
    build = service.build(build_id)
    if status != "COMPLETED":
        sys.exit(f"build {build_id} {status}: {build['status_info']}")
    console.print(f"\nbuilt in {time.monotonic() - began:.1f} s, {build['size'] / 1e6:.0f} MB\n")
    explain(service, console)
    if picture:
        drawn = console.export_svg(title="scripts/demo").replace(service.token, "TOKEN")
        # A picture in a README loads nothing from elsewhere.
        arguments.svg.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))


def free_port(wanted: int) -> int:
    """Returns the port, or 0 for any other when somebody has it."""
    with socket.socket() as probe:
        return 0 if probe.connect_ex(("127.0.0.1", wanted)) == 0 else wanted


def channel_settings(console: Console) -> list[str]:
    """Returns the settings for conda-forge, or for a local channel in its place."""
    try:
        urllib.request.urlopen(
            urllib.request.Request(CHANNEL, method="HEAD"), timeout=REACH_TIMEOUT_S
        ).close()
    except OSError:
        channels = HERE.resolve() / "channels"
        console.print("conda-forge can't be reached: making a local channel of PyPI's wheels,")
        console.print("which takes its name; it is kept for the next time")
        make_channel("demo", channels / "conda-forge", HERE / "wheels")
        return [f"--CondaStore.conda_channel_alias={channels.as_uri()}"]
    console.print("packages come from conda-forge")
    return []


def explain(service: Service, console: Console) -> None:
    """Runs the environment's Python and says what can be done now."""
    link = HERE.resolve() / "data" / "state" / "default" / "envs" / "data-science"
    used = subprocess.run(
        [link / "bin" / "python", "-c", USE], check=True, capture_output=True, text=True
    )
    console.print(used.stdout, highlight=False, markup=False)
    console.print(
        f"""
the environment     {link}
activate it         conda activate {link}
without conda       export PATH={link}/bin:$PATH
its web address     {service.url}/api/v1/environment/default/data-science/
change something    curl -H 'Authorization: Bearer {service.token}' ...
stop the daemon     scripts/demo --stop
""",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
