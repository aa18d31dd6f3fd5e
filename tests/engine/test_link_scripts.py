"""Post-link scripts of packages: run as conda runs them, or named."""

from pathlib import Path

import pytest

from devtools.localchannel.rawpackage import RawMember
from tests.engine.conftest import Outcome, Place, Record, child
from tests.engine.test_store import record_of, write_package


def scripted(
    place: Place, script: str, *members: RawMember, name: str = "odd", depends: tuple[str, ...] = ()
) -> Record:
    """A package with a post-link script, which is not executable, as conda runs it all the same."""
    path = f"bin/.{name}-post-link.sh"
    return write_package(
        place.root / "channel",
        [RawMember(path, script.encode()), *members],
        name=name,
        depends=depends,
    )


def build(place: Place, *records: Record) -> Outcome:
    return place.build(list(records), link_scripts=True, bytecode=False)


def test_a_script_runs_in_the_activated_environment(place: Place, small_channel: Path) -> None:
    script = """
        echo "$PKG_NAME $PKG_VERSION $PKG_BUILDNUM in $PREFIX from $PWD"
        [[ $COLOUR = red ]] && echo "activated, for $CONDA_PREFIX"
        python -c 'import flask, sys; print("flask in", sys.prefix)'
        flask --version | head -1
        stat -c 'mode %a' "$PREFIX/share/notes"
        echo more >> "$PREFIX/share/notes"
        echo 'Have a look at the notes.' >> "$PREFIX/.messages.txt"
    """
    activation = RawMember("etc/conda/activate.d/odd.sh", b"export COLOUR=red\n")
    notes = RawMember("share/notes", b"some\n", 0o444)
    record = scripted(place, script, activation, notes, depends=("flask",))
    outcome = build(place, *place.solve(small_channel, "python 3.11.*", "flask"), record)
    assert outcome.result
    prefix = place.prefix
    log = outcome.log.splitlines()
    start = log.index(f"odd 1.0 0 in {prefix} from {prefix}/bin")
    assert log[start + 1 : start + 6] == [
        f"activated, for {prefix}",
        f"flask in {prefix}",
        "Python 3.11.7",
        "mode 644",
        "Have a look at the notes.",
    ]
    assert "odd 1.0" in log[start - 1] and "runs a post-link script" in log[start - 1]
    assert (prefix / "share" / "notes").read_text() == "some\nmore\n"
    (stored,) = place.packages.glob("store/*/share/notes")
    assert stored.read_text() == "some\n"
    assert not (prefix / ".messages.txt").exists()
    assert not place.litter()


def test_scripts_run_after_those_of_what_they_need(place: Place) -> None:
    first = scripted(place, 'echo zero > "$PREFIX/began"', name="zero")
    second = scripted(place, 'cat "$PREFIX/began"', name="a", depends=("zero",))
    assert "\nzero\n" in build(place, second, first).log


def test_a_script_that_fails_fails_the_build(place: Place) -> None:
    script = """
        echo trying
        echo 'no such licence' >&2
        echo 'Ask for one.' > "$PREFIX/.messages.txt"
        exit 3
        echo never
    """
    record = scripted(place, script)
    outcome = build(place, record)
    assert outcome.error["kind"] == "package"
    assert outcome.error["text"] == (
        f"The post-link script of odd 1.0 ({record['url']}), bin/.odd-post-link.sh, "
        "failed with status 3. Its last words:\ntrying\nno such licence\nAsk for one."
    )
    assert "\ntrying\nno such licence\nAsk for one." in outcome.log
    assert not place.prefix.exists()
    assert not place.litter()


def test_the_error_has_the_last_lines_only(place: Place) -> None:
    outcome = build(place, scripted(place, "seq 1 1000; kill -SEGV $$"))
    text = outcome.error["text"]
    assert "was ended by Segmentation fault" in text
    assert text.endswith("\n".join(map(str, range(981, 1001))))
    assert "\n980\n" in outcome.log and "\n980\n" not in text


def test_what_a_script_prints_is_in_the_log_at_once(place: Place) -> None:
    go = place.root / "go"
    script = f"echo waiting; until [ -e {go} ]; do sleep 0.02; done"
    with child() as started:
        started.send(place.build_job([scripted(place, script)], link_scripts=True))
        started.wait_for(lambda event: event.get("text") == "waiting")
        go.touch()
        assert started.finish().result


@pytest.mark.parametrize("kind", ["pre-link", "post-link"])
def test_scripts_that_are_not_run_are_named(place: Place, hostile_channel: Path, kind: str) -> None:
    outcome = place.build([record_of(hostile_channel, hostile_channel, kind)])
    assert f"{kind} 1.0" in outcome.log and f"has a {kind} script, which was not run" in outcome.log
    assert ("run_link_scripts is off" in outcome.log) == (kind == "post-link")
    assert not (place.prefix / "escaped").exists()


def test_pre_link_scripts_are_never_run(place: Place, hostile_channel: Path) -> None:
    outcome = build(place, record_of(hostile_channel, hostile_channel, "pre-link"))
    assert "has a pre-link script, which was not run" in outcome.log
    assert not (place.prefix / "escaped").exists()


def test_with_scripts_no_file_is_shared(place: Place, hostile_channel: Path) -> None:
    outcome = build(place, record_of(hostile_channel, hostile_channel, "post-link"))
    assert (place.prefix / "escaped").exists()
    assert outcome.result["size"]["own_bytes"] == outcome.result["size"]["bytes"]
