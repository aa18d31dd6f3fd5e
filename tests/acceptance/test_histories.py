"""Random histories of a daemon against a small model of what its users were told (I1-I4).

More of them: `scripts/test -n 0 tests/acceptance/test_histories.py --histories 200`.
"""

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.acceptance.harness import ENDED, Daemon, assert_becomes_clean, eventually
from tests.acceptance.oracle import assert_sound
from tests.acceptance.stories import stopped

STEPS = 14
NAMES = st.sampled_from(["one", "two"])
TEXTS = st.sampled_from(["first", "second"])


@dataclass
class Asked:
    """A build as whoever asked for it knows it."""

    environment: str
    may_end: set[str]
    deleted: bool = False
    kills: int = 0
    """How often the daemon was killed before it had ended; it may be given up after two."""


@dataclass
class Known:
    """An environment as its users know it."""

    builds: dict[int, Asked] = field(default_factory=dict)
    description: str | None = None
    active: int | None = None
    """Which build was made the active one, when none was under way."""


class Histories(RuleBasedStateMachine):
    """What users ask, and what happens to the daemon meanwhile."""

    daemon: ClassVar[Daemon]
    channel: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self._suffix = uuid.uuid4().hex[:8]
        self._known: dict[str, Known] = {}

    # What users ask for

    @rule(name=NAMES, package=st.sampled_from(["harmless", "harmless", "missing"]))
    def submit(self, name: str, package: str) -> None:
        environment = f"{name}-{self._suffix}"
        build_id = self.daemon.submit(
            {"name": environment, "channels": [self.channel], "dependencies": [package]}
        )
        known = self._known.setdefault(environment, Known())
        end = "COMPLETED" if package == "harmless" else "FAILED"
        known.builds[build_id] = Asked(environment, {end})
        known.active = None

    @precondition(lambda self: self._known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        build_id, asked = self._choose(data)
        self.daemon.cancel(build_id)
        if not asked.deleted:
            asked.may_end.add("CANCELED")

    @precondition(lambda self: self._known)
    @rule(data=st.data())
    def delete_build(self, data: st.DataObject) -> None:
        build_id, asked = self._choose(data)
        answer = self.daemon.request("DELETE", f"/build/{build_id}/")
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            asked.deleted = True
            self._known[asked.environment].active = None

    @precondition(lambda self: self._known)
    @rule(data=st.data())
    def activate(self, data: st.DataObject) -> None:
        build_id, asked = self._choose(data)
        known = self._known[asked.environment]
        is_quiet = all(self._status(other) in ENDED for other in known.builds)
        answer = self.daemon.request(
            "PUT", f"/environment/default/{asked.environment}/", json={"build_id": build_id}
        )
        assert answer.status_code in (200, 400), answer.text
        if answer.status_code == 200:
            assert not asked.deleted
            assert "COMPLETED" in asked.may_end
            known.active = build_id if is_quiet else None

    @precondition(lambda self: self._known)
    @rule(data=st.data(), text=TEXTS)
    def describe(self, data: st.DataObject, text: str) -> None:
        environment = data.draw(st.sampled_from(sorted(self._known)))
        path = f"/environment/default/{environment}/"
        answer = self.daemon.request("PUT", path, json={"description": text})
        assert answer.status_code == 200, answer.text
        self._known[environment].description = text

    @precondition(lambda self: self._known)
    @rule(data=st.data())
    def delete_environment(self, data: st.DataObject) -> None:
        environment = data.draw(st.sampled_from(sorted(self._known)))
        answer = self.daemon.request("DELETE", f"/environment/default/{environment}/")
        assert answer.status_code == 200, answer.text
        # Until it is gone, nobody gets its name.
        for build_id in self._known.pop(environment).builds:
            eventually(partial(self._is_gone, build_id))

    # What happens meanwhile

    @precondition(lambda self: self._known)
    @rule(what=st.sampled_from(["builds end", "kill", "restart"]))
    def happens(self, what: str) -> None:
        if what == "builds end":
            self._wait()
            return
        if what == "kill":
            self._kill()
        else:
            assert self.daemon.stop() == 0
        self.daemon.start()

    def _kill(self) -> None:
        builds = {b: asked for known in self._known.values() for b, asked in known.builds.items()}
        for asked in [asked for b, asked in builds.items() if self._status(b) not in ENDED]:
            asked.kills += 1
            if asked.kills > 1:
                asked.may_end.add("FAILED")
        self.daemon.kill()

    # What must be so

    @invariant()
    def links_name_what_is_whole(self) -> None:
        for environment in self._known:
            link = self.daemon.link(environment)
            try:
                target = os.readlink(link)
            except FileNotFoundError:
                continue
            # One that is being deleted goes together with its link, but not at the same instant.
            if (link / "conda-meta").is_dir():
                assert (Path(target) / "share/harmless").read_text() == "attacked"

    def teardown(self) -> None:
        """Waits until all is done, and compares it with what was promised."""
        self._wait()
        for environment, known in self._known.items():
            for build_id, asked in known.builds.items():
                self._check_build(build_id, asked)
            self._check_environment(environment, known)
        assert_becomes_clean(self.daemon)

    def _wait(self) -> None:
        for known in self._known.values():
            for build_id in known.builds:
                self.daemon.ended(build_id)

    def _check_build(self, build_id: int, asked: Asked) -> None:
        build = self.daemon.build(build_id)
        assert build["status"] in asked.may_end, (build, asked)
        if asked.deleted:
            eventually(lambda: self.daemon.build(build_id)["size"] == 0)
        elif build["status"] == "COMPLETED":
            keys = {row["artifact_type"]: row["key"] for row in build["build_artifacts"]}
            assert (Path(keys["DIRECTORY"]) / "share/harmless").read_text() == "attacked"
            assert self.daemon.log(build_id).endswith("\n")

    def _check_environment(self, environment: str, known: Known) -> None:
        found = self.daemon.data_of(f"/environment/default/{environment}/")
        if known.description is not None:
            assert found["description"] == known.description
        current = found["current_build_id"]
        if known.active is not None:
            assert current == known.active
        whole = {
            build_id
            for build_id, asked in known.builds.items()
            if not asked.deleted and self._status(build_id) == "COMPLETED"
        }
        link = self.daemon.link(environment)
        if not whole:
            eventually(lambda: not link.is_symlink(), what=link)
            return
        assert current in whole, (current, whole)
        build = self.daemon.build(current)
        keys = {row["artifact_type"]: row["key"] for row in build["build_artifacts"]}
        eventually(lambda: os.readlink(link) == keys["DIRECTORY"], what=lambda: os.readlink(link))

    def _choose(self, data: st.DataObject) -> tuple[int, Asked]:
        builds = {b: asked for known in self._known.values() for b, asked in known.builds.items()}
        # By their order, which is the same each time; their ids are not.
        chosen = sorted(builds)[data.draw(st.integers(0, len(builds) - 1))]
        return chosen, builds[chosen]

    def _is_gone(self, build_id: int) -> bool:
        return self.daemon.request("GET", f"/build/{build_id}/").status_code == 404

    def _status(self, build_id: int) -> Any:
        return self.daemon.build(build_id)["status"]


@pytest.fixture
def histories(tmp_path: Path, tiny: str) -> Iterator[type[Histories]]:
    with stopped(tmp_path / "data", "--CondaStoreWorker.max_attempts=100") as daemon:
        daemon.start()
        Histories.daemon, Histories.channel = daemon, tiny
        yield Histories
        assert_sound(daemon)


def test_what_users_were_told_is_so(
    histories: type[Histories], request: pytest.FixtureRequest
) -> None:
    given = request.config.getoption("histories")
    if given is None:
        # A short history, and one with a bit of everything.
        histories = seed(1)(histories)
    run_state_machine_as_test(
        histories,
        settings=settings(
            max_examples=given or 2,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=[Phase.generate] if given is None else [Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
