"""What is kept is right, and nobody's but whose it is."""

from dataclasses import replace
from typing import Any

import pytest
from starlette.requests import Request

from condastore.access import ADMINISTRATOR
from condastore.http import answers
from condastore.http.answers import ANSWER_BYTES, ANSWERS, Answers


def request(target: str = "/build/", **headers: str) -> Request:
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": path,
        "query_string": query.encode(),
        "headers": [
            (key.replace("_", "-").encode(), value.encode()) for key, value in headers.items()
        ],
        "server": ("localhost", 80),
        "scheme": "http",
    }
    return Request(scope)


def test_an_answer_is_kept_until_something_is_written() -> None:
    kept = Answers()
    kept.keep("t", request(), ADMINISTRATOR, 1, b"{}")
    found = kept.find("t", request(), ADMINISTRATOR, 1)
    assert found is not None and found.body == b"{}"
    assert kept.find("t", request(), ADMINISTRATOR, 2) is None


def test_it_is_for_who_asked_and_for_what_he_asked() -> None:
    kept = Answers()
    kept.keep("t", request("/build/?page=1"), ADMINISTRATOR, 1, b"{}")
    assert kept.find("other", request("/build/?page=1"), ADMINISTRATOR, 1) is None
    assert kept.find("t", request("/build/?page=2"), ADMINISTRATOR, 1) is None
    assert kept.find("t", request("/namespace/?page=1"), ADMINISTRATOR, 1) is None
    # His rights have changed since.
    less = replace(ADMINISTRATOR, bindings={})
    assert kept.find("t", request("/build/?page=1"), less, 1) is None


def test_it_gets_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "AGE_S", -1.0)
    kept = Answers()
    kept.keep("t", request(), ADMINISTRATOR, 1, b"{}")
    assert kept.find("t", request(), ADMINISTRATOR, 1) is None


def test_it_takes_bounded_memory() -> None:
    kept = Answers()
    for number in range(ANSWERS + 10):
        kept.keep("t", request(f"/build/{number}/"), ADMINISTRATOR, 1, b"{}")
    assert len(kept._answers) == ANSWERS
    kept.keep("t", request("/large/"), ADMINISTRATOR, 1, b"x" * (ANSWER_BYTES + 1))
    assert kept.find("t", request("/large/"), ADMINISTRATOR, 1) is None


def test_a_client_that_has_it_gets_nothing() -> None:
    answer = Answers().keep("t", request(), ADMINISTRATOR, 1, b"{}")
    full = answer.response(request())
    assert (full.status_code, full.body) == (200, b"{}")
    assert full.headers["etag"] == answer.etag
    again = answer.response(request(if_none_match=answer.etag))
    assert (again.status_code, again.body) == (304, b"")
    changed = answer.response(request(if_none_match='"other"'))
    assert changed.status_code == 200
