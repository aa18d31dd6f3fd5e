"""The command line, and the configuration file that it prints."""

import ast
from pathlib import Path

import pytest

from condastore import __version__
from condastore.cli import configurable_classes, main
from condastore.configuration_file import configuration_file

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
    assert (ROOT / "config.example.py").read_text() == configuration_file(CLASSES), (
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
