"""The command line, and the configuration file that it prints."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from condastore import __version__
from condastore.cli import configurable_classes, main
from condastore.locks import DirectoryLock
from condastore.maintenance import DB_HELP
from condastore.migrations import HEAD
from condastore.server_configuration import CondaStoreServer

ROOT = Path(__file__).parents[1]
CLASSES = configurable_classes()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_says_what_the_commands_do(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("serve", "config", "token", "--version"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"condastore {__version__}\n"


def test_an_unknown_command_is_refused_with_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dance"]) == 2
    printed = capsys.readouterr().err
    assert "there is no command 'dance'" in printed and "condastore serve" in printed


def test_the_example_is_the_complete_configuration_file() -> None:
    # As its users run it: a default that is a class is printed otherwise once it was looked up.
    command = [sys.executable, "-m", "condastore", "config"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "config.example.py").read_text() == printed, (
        "run: condastore config > config.example.py"
    )


def test_every_setting_has_help_and_a_place_in_the_documentation() -> None:
    documented = (ROOT / "docs" / "configuration.md").read_text()
    for section in CLASSES:
        for name, trait in section.class_own_traits(config=True).items():
            assert trait.help, f"{section.__name__}.{name} has no help"
            assert f"`{section.__name__}.{name}`" in documented, f"{section.__name__}.{name}"


def test_every_setting_in_the_example_is_valid_when_its_mark_is_removed() -> None:
    lines = (ROOT / "config.example.py").read_text().splitlines()
    settings = [line.removeprefix("# ") for line in lines if line.startswith("# c.")]
    assert len(settings) == sum(len(section.class_own_traits(config=True)) for section in CLASSES)
    ast.parse("\n".join(settings))


def test_a_database_is_upgraded_and_checked_and_copied(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        CondaStoreServer.clear_instance()
        places = f"--data={tmp_path / 'data'}", f"--CondaStore.database_url={database_url}"
        status = main([*arguments, *places])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    assert run("db", "check") == (
        1,
        "there is no schema yet: the daemon makes it when it starts\n",
    )
    assert run("db", "upgrade") == (0, f"the schema is {HEAD}\n")
    assert run("db", "check")[0] == 0
    copy = f"sqlite:///{tmp_path / 'copy.sqlite'}"
    status, printed = run("db", "copy", copy)
    assert status == 0 and "namespace: 0 rows" in printed
    assert run("db", "dance") == (1, f"condastore: {DB_HELP}\n")
    assert run("storage", "copy", "LocalStorage", "None")[0] == 1
    assert "there is no storage Nothing" in run("storage", "copy", "LocalStorage", "Nothing")[1]
    assert "0 artifacts copied" in run("storage", "copy", "LocalStorage", "LocalStorage")[1]
    lock = DirectoryLock(tmp_path / "data" / "daemon.lock")
    lock.acquire()
    assert "another condastore" in run("db", "copy", copy)[1]
    lock.release()
    CondaStoreServer.clear_instance()
