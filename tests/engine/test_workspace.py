"""Where running builds put aside what they make."""

import threading
from pathlib import Path

from condastore.engine.locks import hold_if_free
from condastore.engine.workspace import remove_abandoned, workspace


def test_a_directory_that_has_gone_is_held_by_nobody(tmp_path: Path) -> None:
    assert hold_if_free(tmp_path / "gone") is None


def test_builds_that_end_at_once_do_not_fail_each_other(tmp_path: Path) -> None:
    failures: list[BaseException] = []

    def build() -> None:
        try:
            for _ in range(60):
                with workspace(tmp_path) as directory:
                    (directory / "file").touch()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=build) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
