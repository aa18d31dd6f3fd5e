"""The documentation says what is there."""

import ast
import re
from pathlib import Path

from starlette.routing import Route, WebSocketRoute

from condastore.access import DEFAULT_ROLES, PERMISSIONS
from condastore.http.app import API, API_V2

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


def test_every_relative_link_leads_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_route_is_documented() -> None:
    documented = (ROOT / "docs" / "api.md").read_text()
    for version, routes in (("v1", API), ("v2", API_V2)):
        for route in routes:
            assert isinstance(route, Route | WebSocketRoute)
            assert re.search(rf"[` ]/api/{version}{re.escape(route.path)}`", documented), route.path


def test_every_permission_and_role_is_documented() -> None:
    documented = (ROOT / "docs" / "security.md").read_text()
    for permission, what in PERMISSIONS.items():
        roles = [role for role, given in DEFAULT_ROLES.items() if permission in given]
        marks = ["x" if role in roles else " " for role in ("viewer", "editor", "admin")]
        assert f"| `{permission}` | {what} | {' | '.join(marks)} |" in documented, permission


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
        assert re.search(rf"^{command}( |$)", ci, re.MULTILINE), command


def test_every_test_that_proves_something_of_a_fault_is_there() -> None:
    table = (ROOT / "docs" / "faults.md").read_text()
    tests = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    named = set(re.findall(r"`(test_\w+)`", table))
    assert len(named) > 50
    assert named <= tests, sorted(named - tests)
