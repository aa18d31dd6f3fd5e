"""The solver's role, against real channels on disk and over HTTP."""

import json
import shutil
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from devtools.localchannel.server import Fault, serve
from tests.engine.conftest import Place, child, run


def names(records: list[dict[str, object]]) -> set[object]:
    return {record["name"] for record in records}


def test_a_solution_holds_all_that_a_lockfile_needs(place: Place, small_channel: Path) -> None:
    records = place.solve(small_channel, "python 3.11.*", "flask")
    assert {"python", "flask", "werkzeug", "jinja2"} <= names(records)
    for record in records:
        assert {"name", "version", "build", "url", "sha256", "md5", "size", "depends"} <= set(
            record
        )


def test_solving_for_foreign_platforms_assumes_their_virtual_packages(
    place: Place, small_channel: Path
) -> None:
    job = place.solve_job(small_channel, "six 1.16.*", platforms=["linux-64", "osx-arm64"])
    # six needs python, which this channel has for one platform only.
    assert "python" in run(job).error["text"]
    job["specs"] = ["python_abi", "__osx >=11"]
    job["platforms"] = ["osx-arm64"]
    outcome = run(job)
    assert names(outcome.result["packages"]["osx-arm64"]) == {"python_abi"}


def test_given_virtual_packages_and_cuda(place: Place, small_channel: Path) -> None:
    place.solve(small_channel, "python_abi", "__cuda >=12", cuda="12.4")
    place.solve(
        small_channel,
        *["python_abi", "__glibc >=9"],
        virtual_packages={"linux-64": [["__glibc", "9.1", "0"]]},
    )


@pytest.mark.parametrize(
    "spec", ["numpy >=1.20,", "flask=", "@feature", "", "fla*", "file:///etc/passwd"]
)
def test_an_invalid_spec_is_named(place: Place, small_channel: Path, spec: str) -> None:
    error = run(place.solve_job(small_channel, spec)).error
    assert error["kind"] == "spec"
    assert repr(spec) in error["text"]


def test_a_package_outside_of_the_channels_is_refused(place: Place, small_channel: Path) -> None:
    archive = next((small_channel / "noarch").glob("six-*")).as_uri()
    assert "six" in names(place.solve(small_channel, archive))
    elsewhere = place.root / "elsewhere"
    elsewhere.mkdir()
    error = run(place.solve_job(elsewhere, archive)).error
    assert error["kind"] == "spec"


def test_a_spec_may_name_its_channel_and_hash(place: Place, small_channel: Path) -> None:
    records = place.solve(small_channel, f"{small_channel.as_uri()}::six 1.16.*")
    six = next(record for record in records if record["name"] == "six")
    assert six in place.solve(small_channel, f"six[md5={six['md5']}]")


def test_unsatisfiable_specs_give_the_tree_of_reasons(place: Place, small_channel: Path) -> None:
    outcome = run(place.solve_job(small_channel, "flask", "python 2.7.*"))
    assert outcome.error["kind"] == "unsatisfiable"
    assert "python 2.7" in outcome.error["text"]
    assert outcome.status == 1


def test_a_channel_without_noarch_is_explained(place: Place, small_channel: Path) -> None:
    channel = place.root / "channel"
    shutil.copytree(small_channel / "linux-64", channel / "linux-64")
    error = run(place.solve_job(channel, "python")).error
    assert error["kind"] == "network"
    assert "noarch/repodata.json" in error["text"]


def test_an_unreachable_channel_is_named_without_credentials(place: Place) -> None:
    url = "http://user:pass@127.0.0.1:1/t/secret/channel"
    error = run(place.solve_job(url, "python")).error
    assert error["kind"] == "network"
    assert "127.0.0.1:1/channel" in error["text"]
    assert not {"pass", "secret"} & set(error["text"].replace("/", " ").replace(":", " ").split())


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_is_told_apart(place: Place, small_channel: Path, status: int) -> None:
    with serve(small_channel, faults={"*": Fault(status=status)}) as server:
        error = run(place.solve_job(server.url, "python")).error
    assert error["kind"] == "auth"
    assert server.url in error["text"]


@pytest.mark.parametrize(
    ("lock", "credential"),
    [
        ({"token": "tk-1"}, {"token": "tk-1"}),
        ({"bearer": "br-1"}, {"bearer": "br-1"}),
        ({"basic": ("someone", "pw-1")}, {"username": "someone", "password": "pw-1"}),
    ],
)
def test_credentials_open_a_channel_and_show_nowhere(
    place: Place, small_channel: Path, lock: dict[str, str], credential: dict[str, str]
) -> None:
    with serve(small_channel, **lock) as server:  # type: ignore[arg-type]
        credentials = [{"url": server.root, **credential}]
        job = place.solve_job(server.root, "python", "six", credentials=credentials)
        solved = run(job)
        built = place.build(solved.result["packages"]["linux-64"], credentials=credentials)
        wrong = run({**job, "credentials": [], "repodata_cache": str(place.root / "other")})
    said = json.dumps([solved.events, built.result, wrong.events])
    assert all(secret not in said for secret in ("tk-1", "br-1", "pw-1"))
    assert wrong.error["kind"] in ("auth", "network")


@pytest.mark.parametrize(
    ("days", "trusted", "said"),
    [
        (0, True, ""),
        (0, False, "SSL_CERT_FILE"),
        (7, True, "clock"),
        (-7, True, "clock"),
    ],
)
def test_F45_F105_certificates(
    place: Place, small_channel: Path, days: int, trusted: bool, said: str
) -> None:
    authority = trustme.CA()
    begin = datetime.now(UTC) + timedelta(days=days - 1)
    certificate = authority.issue_cert(
        "127.0.0.1", not_before=begin, not_after=begin + timedelta(days=2)
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(tls)
    file = place.root / "authorities.pem"
    authority.cert_pem.write_to_path(str(file))
    environment = {"SSL_CERT_FILE": str(file)} if trusted else {}
    with serve(small_channel, tls=tls) as server:
        outcome = run(place.solve_job(server.url, "six"), environment=environment)
    if said:
        assert outcome.error["kind"] == "network"
        assert said in outcome.error["text"]
    else:
        assert "six" in names(outcome.result["packages"]["linux-64"])


def test_a_slow_channel_ends_in_a_timeout(place: Place, small_channel: Path) -> None:
    with serve(small_channel, faults={"*": Fault(delay=30)}) as server:
        error = run(place.solve_job(server.url, "python", timeout_s=1)).error
    assert error["kind"] == "timeout"


def test_a_warm_solver_sees_changes_at_the_right_time(place: Place, small_channel: Path) -> None:
    def without_flask(directory: Path) -> None:
        path = directory / "noarch" / "repodata.json"
        repodata = json.loads(path.read_bytes())
        for kind in ("packages", "packages.conda"):
            repodata[kind] = {k: v for k, v in repodata[kind].items() if v["name"] != "flask"}
        path.write_text(json.dumps(repodata))
        path.with_suffix(".json.zst").unlink()

    local, served = place.root / "local", place.root / "served"
    for directory in (local, served):
        shutil.copytree(small_channel, directory)
    with serve(served) as server, child() as solver:

        def solve(channel: str | Path, ttl_s: float) -> str:
            solver.send(place.solve_job(channel, "flask", repodata_ttl_s=ttl_s))
            return str(solver.wait_for(lambda event: event["t"] in ("result", "error"))["t"])

        assert (solve(local, 120), solve(server.url, 120)) == ("result", "result")
        without_flask(local)
        without_flask(served)
        assert (solve(local, 120), solve(server.url, 120)) == ("error", "result")
        assert solve(server.url, 0) == "error"
        assert solver.finish().events[-1]["kind"] == "unsatisfiable"


def test_a_solver_stays_for_the_next_job(place: Place, small_channel: Path) -> None:
    job = place.solve_job(small_channel, "six")
    outcome = run(job, place.solve_job(small_channel, "numpy=="), job)
    ends = [event["t"] for event in outcome.events if event["t"] in ("result", "error")]
    assert ends == ["result", "error", "result"]
    assert outcome.result["rss_bytes"] > 1 << 20


def test_a_solve_as_of_a_day_in_the_past(place: Place, small_channel: Path) -> None:
    def click(day: str | None) -> object:
        records = place.solve(small_channel, "click", "python", exclude_newer=day)
        return next(record["version"] for record in records if record["name"] == "click")

    assert click("2025-02-01") == "8.1.8"
    assert click("2024-12-19") == "8.1.7"
    assert click(None) not in ("8.1.7", "8.1.8")
    job = place.solve_job(small_channel, "click", exclude_newer="2020-01-01")
    assert run(job).error["kind"] == "unsatisfiable"
