"""The examples of docs/hooks.md, as an operator would use them."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Daemon, eventually, running

DOCUMENT = Path(__file__).parents[2] / "docs" / "hooks.md"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("hooks")
    examples = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    config = directory / "config.py"
    config.write_text("c = get_config()\n" + "\n".join(examples))
    with running(directory / "data", f"--config={config}") as found:
        yield found


def test_a_specification_is_changed_and_checked_again(daemon: Daemon, tiny: str) -> None:
    specification = {"name": "env", "channels": [tiny], "dependencies": ["harmless"]}
    build = daemon.completed(daemon.submit(specification))
    assert build["specification"]["spec"]["variables"] == {"SITE": "lab"}
    eventually(lambda: "now live: default env" in daemon.output.read_text())


def test_what_a_hook_refuses_is_told(daemon: Daemon) -> None:
    large = {"name": "env", "dependencies": [f"package{n}" for n in range(51)]}
    answer = daemon.post(large, namespace="production")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "production environments have at most 50 dependencies",
    )
    answer = daemon.post({"name": "env"}, namespace="archive")
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        "the namespace archive is closed",
    )
    assert daemon.data_of("/build/?namespace=archive") == []


def test_a_route_of_the_operators(daemon: Daemon) -> None:
    answer = daemon.client.get(f"{daemon.url}/motd/")
    assert (answer.status_code, answer.text) == (200, "maintenance on Friday")
