"""Files that are environments, through edits of all kinds."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Daemon, eventually, running


@pytest.fixture
def watched(tmp_path: Path) -> Path:
    folder = tmp_path / "watched"
    folder.mkdir()
    return folder


@pytest.fixture
def daemon(tmp_path: Path, watched: Path) -> Iterator[Daemon]:
    with running(tmp_path / "data", f"--CondaStoreWorker.watch_paths=['{watched}']") as found:
        yield found


def text(name: str, tiny: str, description: str = "") -> str:
    return json.dumps(
        {
            "name": name,
            "channels": [tiny],
            "dependencies": ["harmless"],
            "description": description,
        }
    )


def builds(daemon: Daemon, name: str) -> list[str]:
    path = f"/build/?namespace=filesystem&name={name}"
    return [build["status"] for build in daemon.data_of(path)]


def test_a_file_is_built_and_built_again_when_it_changes(
    daemon: Daemon, watched: Path, tiny: str
) -> None:
    (watched / "one.yaml").write_text(text("one", tiny))
    eventually(lambda: builds(daemon, "one") == ["COMPLETED"])
    # As editors do it.
    other = watched / "one.yaml.new"
    other.write_text(text("one", tiny, "changed"))
    os.replace(other, watched / "one.yaml")
    eventually(lambda: builds(daemon, "one") == ["COMPLETED", "COMPLETED"])
    # The same content again is built already.
    (watched / "one.yaml").touch()
    (watched / "two.yml").write_text(text("two", tiny))
    eventually(lambda: builds(daemon, "two") == ["COMPLETED"])
    assert len(builds(daemon, "one")) == 2
    (watched / "one.yaml").unlink()
    assert daemon.data_of("/environment/filesystem/one/")["description"] == "changed"


def test_bad_files_are_named_and_stop_nothing(daemon: Daemon, watched: Path, tiny: str) -> None:
    (watched / "a.yaml").write_text("name: [")
    (watched / "b.yaml").write_bytes(b"\xff\xfe")
    (watched / "c.yaml").write_text("name: huge\ndescription: " + "x" * 2**20)
    os.mkfifo(watched / "d.yaml")
    (watched / "e.yaml").symlink_to(watched / "nowhere")
    (watched / "f.yaml").mkdir()
    (watched / "g.txt").write_text(text("ignored", tiny))
    (watched / "y.yaml").write_text(text("good", tiny))
    (watched / "z.yaml").write_text(text("good", tiny, "of the same name"))
    eventually(lambda: builds(daemon, "good") == ["COMPLETED"])
    eventually(lambda: "z.yaml is not built" in daemon.output.read_text())
    printed = daemon.output.read_text()
    for name in "abc":
        assert f"{name}.yaml is not built" in printed
    assert "has the name good already" in printed
    assert builds(daemon, "ignored") == []


def test_what_was_built_before_a_restart_is_not_built_again(
    daemon: Daemon, watched: Path, tiny: str
) -> None:
    (watched / "one.yaml").write_text(text("one", tiny))
    eventually(lambda: builds(daemon, "one") == ["COMPLETED"])
    assert daemon.stop() == 0
    (watched / "two.yaml").write_text(text("two", tiny))
    daemon.start()
    eventually(lambda: builds(daemon, "two") == ["COMPLETED"])
    assert builds(daemon, "one") == ["COMPLETED"]
