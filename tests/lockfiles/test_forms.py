import json

import pytest
from hypothesis import given

from condastore.documents import Limits
from condastore.errors import InvalidInput, InvalidSpecification
from condastore.lockfiles.conda_lock import Lockfile, from_json_text, to_json_text
from condastore.lockfiles.forms import Form, check_wanted, file_name, read, render
from condastore.lockfiles.records import from_records
from tests.lockfiles.samples import CHANNEL, POSTED, RECORD, TZDATA
from tests.lockfiles.strategies import FEW, lockfiles

LIMITS = Limits(2**20, 100_000)
SOLVED = from_records({"linux-64": [RECORD], "osx-arm64": [TZDATA]}, {}, [CHANNEL], "abc")


@given(lockfiles())
@FEW
def test_the_yaml_is_the_json(lockfile: Lockfile) -> None:
    found = read(render(lockfile, Form.CONDA_LOCK, "linux-64"), LIMITS, "linux-64")
    assert to_json_text(found.lockfile) == to_json_text(lockfile)
    assert not found.is_partial
    assert from_json_text(to_json_text(lockfile).encode()) == lockfile


@pytest.mark.parametrize("form", Form)
def test_every_form_is_recognised(form: Form) -> None:
    found = read(render(SOLVED, form, "linux-64"), LIMITS, "osx-arm64")
    assert found.is_partial is (form is not Form.CONDA_LOCK)
    assert RECORD["url"] in {package.url for package in found.lockfile.package}


def test_json_is_conda_locks() -> None:
    found = read(json.dumps(POSTED), LIMITS, "linux-64")
    assert json.loads(to_json_text(found.lockfile)) == POSTED


@pytest.mark.parametrize("text", ["", "[]", "name: x", "@EXPLICIT: 1", "environments: {}"])
def test_what_has_no_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpecification):
        read(text, LIMITS, "linux-64")


def test_an_explicit_file_is_of_a_platform_that_the_lockfile_has() -> None:
    assert TZDATA["url"] in render(SOLVED, Form.EXPLICIT, "osx-arm64")
    with pytest.raises(InvalidInput, match="platform win-64, but for linux-64, osx-arm64"):
        render(SOLVED, Form.EXPLICIT, "win-64")


def test_a_platform_is_for_the_form_of_one() -> None:
    check_wanted(Form.EXPLICIT, "osx-arm64")
    check_wanted(None, None)
    for form in (None, Form.PIXI, Form.CONDA_LOCK):
        with pytest.raises(InvalidInput, match="explicit only"):
            check_wanted(form, "linux-64")
    with pytest.raises(InvalidInput, match=r"'amiga' should be one of .*linux-64"):
        check_wanted(Form.EXPLICIT, "amiga")


def test_files_are_called_as_their_tools_would_have_it() -> None:
    names = [file_name("web", form, "linux-64") for form in Form]
    assert names == ["web.conda-lock.yml", "web-linux-64.txt", "pixi.lock"]
