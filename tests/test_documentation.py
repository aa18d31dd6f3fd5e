"""The documentation says what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_every_relative_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_route_is_documented() -> None:
    source = (ROOT / "condastore" / "http" / "app.py").read_text()
    documented = (ROOT / "docs" / "api.md").read_text()
    for path in re.findall(r"Route\(\s*\"([^\"]+)\"", source):
        assert f"`/api/v1{path}`" in documented or f" /api/v1{path}`" in documented, path


def test_every_module_has_its_place_in_the_architecture() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text()
    for path in (ROOT / "condastore").iterdir():
        if path.suffix == ".py" and path.stem != "__init__":
            assert f"`{path.name}`" in architecture, path.name
        if path.is_dir() and path.name != "__pycache__":
            assert f"`{path.name}/`" in architecture, path.name


def test_the_readme_shows_the_two_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    ci = (ROOT / ".ci" / "run").read_text()
    for command in ("scripts/demo", "scripts/test"):
        assert re.search(rf"^{command}$", readme, re.MULTILINE), command
        assert re.search(rf"^{command}$", ci, re.MULTILINE), command
